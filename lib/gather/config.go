package gather

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"vmcluster/lib/flagvalue"
)

// Config says how many copies there are of each sample, and what follows from it. The zero value stands for one copy.
type Config struct {
	ReplicationFactor       Factors
	GlobalReplicationFactor int // below 1: 1
	SkipSlowReplicas        bool
}

// RegisterFlags registers -replicationFactor, -globalReplicationFactor and -search.skipSlowReplicas.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	fs.Var(&c.ReplicationFactor, "replicationFactor", "On how many storage nodes vminsert keeps each sample: while fewer are missing, answers are whole. "+
		"With groups of nodes, g1:3,g2:2 tells it for each group; a number alone is for groups which are not named. Set it to what vminsert has")
	fs.IntVar(&c.GlobalReplicationFactor, "globalReplicationFactor", 1, "In how many groups of storage nodes, -storageNode=group/host:port, each sample is kept: while fewer groups lack data, answers are whole")
	fs.BoolVar(&c.SkipSlowReplicas, "search.skipSlowReplicas", false, "Answer without the slowest storage nodes as soon as the others hold copies of all samples "+
		"according to -replicationFactor and -globalReplicationFactor")
}

// Factors is a number which groups of nodes may have their own of, written "2", "g1:3,g2:1" or "2,g1:3".
type Factors struct {
	Default int // of groups that are not named; 0 means 1
	Groups  map[string]int
}

// String returns the flag's value.
func (f *Factors) String() string {
	var items []string
	for group, n := range f.Groups {
		items = append(items, fmt.Sprintf("%s:%d", group, n))
	}
	slices.Sort(items)
	if f.Default > 0 || len(items) == 0 {
		items = slices.Insert(items, 0, strconv.Itoa(max(1, f.Default)))
	}
	return strings.Join(items, ",")
}

// Set adds numbers.
func (f *Factors) Set(s string) error {
	items, err := flagvalue.SplitList(s)
	if err != nil {
		return err
	}
	for _, item := range items {
		group, number, named := strings.Cut(item, ":")
		if !named {
			number = item
		}
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || named && group == "" {
			return fmt.Errorf("cannot parse %q: want a number of copies, at least 1, or group:number for each group of storage nodes", item)
		}
		if !named {
			f.Default = n
			continue
		}
		if f.Groups == nil {
			f.Groups = map[string]int{}
		}
		f.Groups[group] = n
	}
	return nil
}

// of returns the number of a group.
func (f *Factors) of(group string) int {
	if n := f.Groups[group]; n > 0 {
		return n
	}
	return max(1, f.Default)
}
