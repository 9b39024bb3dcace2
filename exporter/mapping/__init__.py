"""From a frame to exposition text, column by column, for every source type alike. Pure: no clock, no I/O."""
