"""Console, progress, memory, processes: what every stage needs of the machine."""
