package consistenthash

import (
	"math/bits"

	"github.com/cespare/xxhash/v2"

	"vmcluster/lib/invariants"
)

// Ring is an immutable set of nodes. It is safe for concurrent use.
type Ring struct {
	seeds []uint64
}

// New returns the ring of the given nodes. Names must differ; nodes are
// referred to by their index in names.
func New(names []string) *Ring {
	invariants.Check(len(names) <= maxNodes, "%d nodes exceed the %d a ring can hold", len(names), maxNodes)
	r := &Ring{seeds: make([]uint64, len(names))}
	for i, name := range names {
		r.seeds[i] = xxhash.Sum64String(name)
	}
	return r
}

// Len returns the number of nodes.
func (r *Ring) Len() int { return len(r.seeds) }

// First returns the node which the key prefers to all others, or -1 when
// the ring is empty.
func (r *Ring) First(hash uint64) int {
	best := uint64(0)
	for i, seed := range r.seeds {
		best = max(best, rank(hash, seed, i))
	}
	return node(best)
}

// FirstOf returns the most preferred node among those i with usable[i], or
// -1 when there is none. It is the first usable node of the preference list.
func (r *Ring) FirstOf(hash uint64, usable []bool) int {
	best := uint64(0)
	for i, seed := range r.seeds {
		if usable[i] {
			best = max(best, rank(hash, seed, i))
		}
	}
	return node(best)
}

// FillFirst fills dst with the first usable nodes of the key's preference list and returns the part which
// was filled; it is shorter than dst when fewer nodes are usable.
func (r *Ring) FillFirst(dst []uint64, hash uint64, usable []bool) []uint64 {
	if len(dst) == 2 { // two copies are what most have
		dst[0], dst[1] = r.firstTwo(hash, usable)
	} else {
		r.fillRanks(dst, hash, usable)
	}
	for j := range dst {
		if dst[j] == 0 {
			return dst[:j]
		}
		dst[j] = uint64(node(dst[j]))
	}
	return dst
}

// fillRanks fills dst with the highest ranks in falling order. Where max and min are used for it, there are no branches to be guessed wrongly.
func (r *Ring) fillRanks(dst []uint64, hash uint64, usable []bool) {
	clear(dst)
	for i, seed := range r.seeds {
		if !usable[i] {
			continue
		}
		k := rank(hash, seed, i)
		for j := range dst {
			dst[j], k = max(dst[j], k), min(dst[j], k)
		}
	}
}

// firstTwo is fillRanks for two.
func (r *Ring) firstTwo(hash uint64, usable []bool) (first, second uint64) {
	for i, seed := range r.seeds {
		if usable[i] {
			k := rank(hash, seed, i)
			first, second = max(first, k), max(second, min(first, k))
		}
	}
	return first, second
}

// maxNodes is the number of nodes whose index, counted from 1, fits the low bits of a rank.
const (
	indexBits = 12
	maxNodes  = 1<<indexBits - 2
)

// rank returns the score of key and node with the node's index, counted from
// 1, in the low bits. So the highest rank names its node, without a branch the
// processor would guess wrongly half of the time, and no two ranks are equal. Zero is
// no rank.
func rank(hash, seed uint64, index int) uint64 {
	return score(hash, seed)&^(1<<indexBits-1) | uint64(index+1)
}

// node returns the index of the node which a rank names, -1 for 0.
func node(rank uint64) int { return int(rank&(1<<indexBits-1)) - 1 }

// score mixes key and node by multiply and fold, as the wyhash family does. One
// round is enough since both inputs are hashes already; the rotation keeps
// the two factors apart for keys that differ in few bits.
func score(hash, seed uint64) uint64 {
	const k = 0xe7037ed1a0b428db
	hi, lo := bits.Mul64(hash^seed, bits.RotateLeft64(hash, 32)^seed*k)
	return hi ^ lo
}
