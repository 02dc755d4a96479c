"""Where routing traces come from: recordings, files, laws."""
