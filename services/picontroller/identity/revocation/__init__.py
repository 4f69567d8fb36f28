"""Revocation: what is refused although it is not outdated, who stays out for good, and telling every member so at once.

Owns the denials and the list of those who are barred. It does not own certificates and API tokens, only the mark that they were revoked.
"""
