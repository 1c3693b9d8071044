package model

import (
	"fmt"
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
