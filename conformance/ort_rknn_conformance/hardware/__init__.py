"""Facts about real hardware: the runtime's contract, trials that may kill a process, and measured costs."""
