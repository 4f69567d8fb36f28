"""What runs in the guest: `setup.sh` once, then `channel.py` for as long as it lives."""
