"""What the processes of a worker need from the operating system: forks, memory."""
