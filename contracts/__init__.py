"""What the parts of flora-serve say to each other: values and errors, standard library only."""
