"""How a run starts: command line, configuration, Spark session, job."""
