package insertrpc

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

// TestKeysForSeveralConsumers asks for the keys of a dictionary from several goroutines, as a router does for its nodes.
func TestKeysForSeveralConsumers(t *testing.T) {
	var d receiverDict
	defer d.reset()
	var keys [][]byte
	for i := range 20_000 {
		key := []byte(fmt.Sprintf("series %d of a host with a rather long name", i))
		if i%5000 == 7 {
			key = []byte(strings.Repeat("long", longKey/4+i))
		}
		d.add(uint64(i), key)
		keys = append(keys, key)
	}
	if d.series.chunks[0].text.Load() != nil {
		t.Fatal("the first chunk is not packed")
	}
	var shared announced
	shared.snapshot(&d.series)
	var wg sync.WaitGroup
	for g := range uint64(4) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, g))
			var got []byte
			for range 3000 {
				i := rng.IntN(len(keys))
				if got = shared.AppendKey(got[:0], uint32(i), 0); !bytes.Equal(got, keys[i]) {
					t.Errorf("key %d is %.60q", i, got)
					return
				}
			}
		})
	}
	wg.Wait()
}
