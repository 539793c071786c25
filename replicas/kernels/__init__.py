"""The elementwise passes of fLoRA over a batch: plain tensor code, and a native op on CPUs."""
