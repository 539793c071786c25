"""What the parts of flora-serve say to each other: plain values and errors, standard library only."""
