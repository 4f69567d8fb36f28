"""Tests on real input that PyPI alone does not give: an emulated Pi, Debian packages, Go."""
