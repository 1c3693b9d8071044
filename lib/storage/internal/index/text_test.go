package index

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestPackedText(t *testing.T) {
	for value, size := range map[string]int{
		"": 0, "node-1": 6, "deadbeef": 6, "deadbeef0": 7, "DEADBEEF": 8, "abcdefg": 7, "\xff": 2, "\xf8\xf9": 4,
		"01234567-89ab-4def-a123-456789abcdef":                 17,
		"/pod01234567-89ab-4def-a123-456789abcdef/" + "x":      4 + 17 + 2,
		"01234567-89ab-4def-a123-456789abcdef0":                6 + 1 + 4 + 1 + 4 + 1 + 4 + 1 + 2 + 6 + 1,
		string(bytes.Repeat([]byte("a"), 600)):                 2 + 255 + 2 + 45,
		"sha256:" + string(bytes.Repeat([]byte("0123456"), 9)): 7 + 2 + 31 + 1,
	} {
		packed, changed := appendPacked(nil, []byte(value))
		if len(packed) != size || changed == bytes.Equal(packed, []byte(value)) {
			t.Errorf("%q takes %d bytes, changed %t; want %d", value, len(packed), changed, size)
		}
		back, ok := appendUnpacked(nil, packed)
		if !ok || string(back) != value {
			t.Errorf("%q became %q, %t", value, back, ok)
		}
	}
}

func FuzzPackedText(f *testing.F) {
	f.Add([]byte("/pod01234567-89ab-4def-a123-456789abcdef/0123456789abcdef"))
	f.Add([]byte("\xf9\x02\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		packed, _ := appendPacked(nil, data)
		if back, ok := appendUnpacked(nil, packed); !ok || !bytes.Equal(back, data) {
			t.Fatalf("%q became %q, %t", data, back, ok)
		}
		_, _ = appendUnpacked(nil, data)
	})
}

func TestSteps(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 2000 {
		base := rng.Uint32N(1 << 31)
		id := base + rng.Uint32N(5)
		ids := []uint32{id}
		for range rng.IntN(6) {
			step := 1 + rng.Uint32N(1<<rng.IntN(20))
			for range 1 + rng.IntN(4) {
				id += step
				ids = append(ids, id)
			}
		}
		r := reader{b: appendSteps(nil, ids, base)}
		if got := r.appendIDs(nil, len(ids), base, id); !slices.Equal(got, ids) || r.bad || len(r.b) > 0 {
			t.Fatalf("%v became %v", ids, got)
		}
		r = reader{b: appendSteps(nil, ids, base)}
		if r.appendIDs(nil, len(ids), base, id-1); !r.bad {
			t.Fatal("an id beyond the last one was taken")
		}
	}
}

func FuzzSteps(f *testing.F) {
	f.Add([]byte{3, 0, 101, 38}, uint16(40))
	f.Fuzz(func(t *testing.T, data []byte, n uint16) {
		r := reader{b: data}
		ids := r.appendIDs(nil, int(n), 5, 1<<20)
		if !r.bad && (len(ids) != int(n) || !slices.IsSorted(ids)) {
			t.Fatalf("%d ids %v", n, ids)
		}
	})
}
