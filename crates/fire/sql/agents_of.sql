select distinct agent from attempts where node = '$node' order by agent
