package storage

import (
	"math/rand/v2"
	"testing"

	"vmcluster/lib/storage/internal/partition"
)

// TestHotTable compares the table with a map over random puts, gets and rotations.
func TestHotTable(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var table hotTable
	current, previous := map[hotKey]uint32{}, map[hotKey]uint32{}
	for range 200_000 {
		k := newHotKey(rng.Uint64N(500), rng.Uint64N(2)<<60, partition.Month(rng.Uint64N(2)))
		switch r := rng.IntN(10_000); {
		case r == 0:
			table.clear()
			current, previous = map[hotKey]uint32{}, map[hotKey]uint32{}
		case r < 30:
			table.rotate()
			current, previous = map[hotKey]uint32{}, current
		case r < 5000:
			id, ok, fresh := table.get(k)
			want, inCurrent := current[k]
			wantOK := inCurrent
			if !inCurrent {
				want, wantOK = previous[k]
			}
			if ok != wantOK || ok && (id != want || fresh != inCurrent) {
				t.Fatalf("get %v: %d, %t, %t; want %d, %t, %t", k, id, ok, fresh, want, wantOK, inCurrent)
			}
		default:
			id := rng.Uint32()
			table.put(k, id)
			current[k] = id
		}
	}
}
