"""The elementwise passes of fLoRA over a batch: plain tensor code everywhere, a native op on CPUs."""
