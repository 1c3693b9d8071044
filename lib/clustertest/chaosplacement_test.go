package clustertest

import (
	"fmt"
	"slices"

	"vmcluster/lib/gather"
)

// placement is on which nodes the copies of a sample are: in several groups, on several of the nodes of each. Node i is in group i modulo their number.
type placement struct {
	within []int // copies in each group
	across int   // how many groups have a sample
}

func (p *placement) groupOf(node int) int { return node % len(p.within) }

// String describes it.
func (p *placement) String() string {
	if len(p.within) == 1 {
		return fmt.Sprintf("%d copies", p.within[0])
	}
	return fmt.Sprintf("%v copies in %d of %d groups", p.within, p.across, len(p.within))
}

// groups returns how many groups have at least as many of the nodes as a sample has copies there, and how many groups the list has nodes of. A group
// cannot have more copies than nodes.
func (p *placement) groups(listed []int, has func(node int) bool) (full, all int) {
	sizes, n := make([]int, len(p.within)), make([]int, len(p.within))
	for _, node := range listed {
		sizes[p.groupOf(node)]++
		if has(node) {
			n[p.groupOf(node)]++
		}
	}
	for g, size := range sizes {
		if size == 0 {
			continue
		}
		all++
		if n[g] >= min(p.within[g], size) {
			full++
		}
	}
	return full, all
}

// enough reports whether so many of the nodes of a list have a sample as its copies should be on: also whether it may be lost with those.
func (p *placement) enough(listed []int, has func(node int) bool) bool {
	full, all := p.groups(listed, has)
	return full >= min(p.across, all)
}

// some returns a random part of a list in which every group has room for its copies.
func (w *chaos) some(list []int) []int {
	list = slices.Clone(list)
	w.rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	var out []int
	had, leave := make([]int, len(w.place.within)), w.rng.IntN(len(list)+1)
	for _, node := range list {
		g := w.place.groupOf(node)
		if had[g]++; had[g] > w.place.within[g] && leave > 0 {
			leave--
			continue
		}
		out = append(out, node)
	}
	return out
}

// inGroup returns the nodes of a list which are in a group.
func (p *placement) inGroup(list []int, group int) []int {
	return slices.DeleteFunc(slices.Clone(list), func(node int) bool { return p.groupOf(node) != group })
}

// name is that of a group, none if there is one only.
func (p *placement) name(group int) string {
	if len(p.within) == 1 {
		return ""
	}
	return fmt.Sprint("g", group+1)
}

// readConfig is what a reader is told.
func (p *placement) readConfig(skips bool) gather.Config {
	cfg := gather.Config{ReplicationFactor: gather.Factors{Default: p.within[0]}, GlobalReplicationFactor: p.across, SkipSlowReplicas: skips}
	if len(p.within) > 1 {
		cfg.ReplicationFactor = gather.Factors{Groups: map[string]int{}}
		for g, n := range p.within {
			cfg.ReplicationFactor.Groups[p.name(g)] = n
		}
	}
	return cfg
}
