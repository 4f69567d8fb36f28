"""The suite of the port ``PinDriver``, run by the simulated board, by gpiod over a fake kernel, and by gpiod inside an emulated Pi."""
