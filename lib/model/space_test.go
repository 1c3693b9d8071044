package model

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// countingKeyer makes keys of numbers and counts how often it was asked.
type countingKeyer struct{ asked int }

func (k *countingKeyer) AppendKey(dst []byte, number uint32, hint uint64) []byte {
	k.asked++
	return fmt.Appendf(dst, "key %d hint %d", number, hint)
}

func TestNumberedSeries(t *testing.T) {
	var b Batch
	k := &countingKeyer{}
	b.SetSpace(NewSpace(), k)
	b.AddNumbered(7, 70, 700)
	b.AddSample(1, 1)
	b.AddKey([]byte("plain"), 5)
	b.AddSample(2, 2)
	b.SetNumber(8)
	if b.Number(0) != 7 || b.Number(1) != 8 || b.Hash(0) != 70 || k.asked != 0 {
		t.Fatalf("numbers %d, %d, hash %d, keyer asked %d times", b.Number(0), b.Number(1), b.Hash(0), k.asked)
	}
	var same, other Batch
	other.AddKey([]byte("of another space"), 1)
	for i := range b.Len() {
		same.Append(&b, i)
	}
	if k.asked != 0 || same.Space() != b.Space() || same.Number(0) != 7 || same.Number(1) != 8 {
		t.Fatalf("a copy lost its numbers: %d, %d; keyer asked %d times", same.Number(0), same.Number(1), k.asked)
	}
	for i := range b.Len() {
		other.Append(&b, i)
	}
	for _, c := range []struct {
		b    *Batch
		i    int
		want string
	}{{&b, 0, "key 7 hint 700"}, {&b, 1, "plain"}, {&same, 0, "key 7 hint 700"}, {&same, 1, "plain"}, {&other, 1, "key 7 hint 700"}, {&other, 2, "plain"}} {
		for range 2 {
			if got := string(c.b.Key(c.i)); got != c.want {
				t.Errorf("key %d is %q; want %q", c.i, got, c.want)
			}
		}
	}
	if k.asked != 2 {
		t.Errorf("the keyer was asked %d times; want once per batch", k.asked)
	}
	if other.Number(1) != NoNumber || other.Space() != nil || other.Rows() != 2 {
		t.Errorf("a series kept its number in another space")
	}
	if b.Reset(); b.Space() != nil {
		t.Error("an empty batch has a space")
	}
}

type attachment struct{ detached int }

func (a *attachment) Detach() { a.detached++ }

func TestSpace(t *testing.T) {
	s := NewSpace()
	created := 0
	create := func() Attachment { created++; return &attachment{} }
	first := s.Attach("a", create).(*attachment)
	if again := s.Attach("a", create); again != first || created != 1 {
		t.Error("an attachment was made twice")
	}
	second := s.Attach("b", create).(*attachment)
	if s.Release("a"); first.detached != 1 || second.detached != 0 {
		t.Error("Release detached the wrong attachment")
	}
	s.Close()
	s.Close()
	if first.detached != 1 || second.detached != 1 {
		t.Errorf("detached %d and %d times", first.detached, second.detached)
	}
	if late := s.Attach("b", create).(*attachment); late == second || late.detached != 1 {
		t.Error("a closed space keeps attachments")
	}
}

// TestAppendSome compares it with Append, for batches of the same and of another space.
func TestAppendSome(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	spaces := []*Space{nil, NewSpace(), NewSpace()}
	keyers := []*countingKeyer{{}, {}}
	for range 300 {
		var some, all Batch
		for range 1 + rng.IntN(3) {
			var src Batch
			space := spaces[rng.IntN(len(spaces))]
			if space != nil {
				src.SetSpace(space, keyers[rng.IntN(2)])
			}
			var indexes []uint32
			for i := range rng.IntN(20) {
				if space == nil || rng.IntN(2) == 0 {
					src.AddKey(fmt.Appendf(nil, "plain %d", rng.IntN(1000)), rng.Uint64())
				} else {
					src.AddNumbered(uint32(i), rng.Uint64(), rng.Uint64())
				}
				for j := range rng.IntN(4) {
					src.AddSample(int64(j), rng.Float64())
				}
				if rng.IntN(2) == 0 {
					indexes = append(indexes, uint32(i))
				}
				if rng.IntN(5) == 0 {
					src.Key(i)
				}
			}
			some.AppendSome(&src, indexes)
			for _, i := range indexes {
				all.Append(&src, int(i))
			}
		}
		if some.Len() != all.Len() || some.Rows() != all.Rows() || some.Space() != all.Space() {
			t.Fatalf("%d series and %d rows; want %d and %d", some.Len(), some.Rows(), all.Len(), all.Rows())
		}
		for i := range some.Len() {
			if some.Number(i) != all.Number(i) || some.Hash(i) != all.Hash(i) || string(some.Key(i)) != string(all.Key(i)) ||
				!slices.Equal(some.Samples(i), all.Samples(i)) {
				t.Fatalf("series %d differs", i)
			}
		}
	}
}
