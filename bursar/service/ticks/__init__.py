"""From the hour to its pages: who makes ticks, who spreads them over the partitions, who works them off."""
