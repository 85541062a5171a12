"""The analysis room: from job records to curves with intervals. It reads records only, and needs no model."""
