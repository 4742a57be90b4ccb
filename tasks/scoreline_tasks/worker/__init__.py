"""The processes of one worker: the main process, its children, and the threads beside the work of each."""
