"""Every pure step of a recorded cycle made again, and what a changed setting would have done."""
