"""What an accelerator makes of the library: its tests, its speed, and the limits of the card."""
