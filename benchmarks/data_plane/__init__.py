"""A million rows through each step, beside the script that people write and what the drivers cost alone."""
