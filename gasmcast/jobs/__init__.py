"""What can be done with a configuration and a working directory: one file a job, each naming its steps in order."""
