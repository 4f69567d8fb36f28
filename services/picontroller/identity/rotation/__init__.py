"""Rotation: how a new root takes the old one's place without anybody being cut off who could have been waited for.

Owns the authority's position and the list of members with what they believe. It does not own keys, and tells members nothing itself.
"""
