"""A tiny x86 guest whose kernel has gpio-sim and i2c-stub: real line requests, edges, pulls and transfers, on no hardware at all.

`kernel` builds what Debian does not have, `image` and `guest` boot it as the emulated Pi is booted, `chips` makes gpiochips and puts
levels on their lines, `inside/` is what runs in it. Software emulation only: its times say nothing about a Pi.
"""
