package gather

// copies tells on which nodes the copies of a sample are: in each of several groups, on several of its nodes. Which ones is
// different from sample to sample and not known here.
type copies struct {
	groupOf []int // the group of each node
	within  []int // for each group: on how many of its nodes a sample is that the group has
	across  int   // in how many groups a sample is
}

// newCopies puts a configuration into the form of hides. A sample cannot be on more nodes than there are.
func newCopies(nodes []Node, cfg *Config) copies {
	c := copies{groupOf: make([]int, len(nodes))}
	index := map[string]int{}
	var sizes []int
	for i := range nodes {
		group := nodes[i].Group
		g, known := index[group]
		if !known {
			g = len(sizes)
			index[group] = g
			sizes = append(sizes, 0)
			c.within = append(c.within, cfg.ReplicationFactor.of(group))
		}
		c.groupOf[i] = g
		sizes[g]++
	}
	for g, size := range sizes {
		c.within[g] = min(c.within[g], size)
	}
	c.across = min(max(1, cfg.GlobalReplicationFactor), len(sizes))
	return c
}

// hides reports whether a sample may be on lost nodes only.
func (c *copies) hides(lost func(node int) bool) bool {
	var few [8]int
	left := append(few[:0], c.within...) // how many more nodes a group can lose until a sample is gone from it
	groups := c.across
	for node, g := range c.groupOf {
		if !lost(node) {
			continue
		}
		if left[g]--; left[g] == 0 {
			groups--
		}
	}
	return groups <= 0
}

// replicated reports whether any sample is on several nodes.
func (c *copies) replicated() bool {
	for _, n := range c.within {
		if n > 1 {
			return true
		}
	}
	return c.across > 1
}
