"""What runs in the guest: `setup.sh` once, the emulated Pi's `channel.py` for as long as it lives, the others when a test asks."""
