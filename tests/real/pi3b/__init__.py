"""An emulated Raspberry Pi 3 B with a real gpiochip, booted from Debian's arm64 kernel in seconds.

`image` makes what it boots, `guest` runs it, `inside/` is what runs in it. Nothing here touches the machine's own apt state, and no
file holds a mirror or registry: those are the machine's.
"""
