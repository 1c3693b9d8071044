package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"vmcluster/lib/backup"
	"vmcluster/lib/errkind"
)

// Fixture is what the tests of a store need.
type Fixture struct {
	// Open returns the store in a directory of the service.
	Open      func(t *testing.T, dir string) backup.Store
	PartBytes int     // what is longer is sent in parts
	Many      int     // objects of which a list comes in several pages
	Faults    *Faults // nil for a service with which nothing can be made to go wrong
}

// Run runs all tests. They use directories of their own, so that they can be run again on a service of somebody else.
func Run(t *testing.T, f *Fixture) {
	f2 := *f
	unique := fmt.Sprintf("run%08x", rand.Uint32())
	f2.Open = func(t *testing.T, dir string) backup.Store { return f.Open(t, unique+"/"+dir) }
	for _, c := range []struct {
		name string
		run  func(t *testing.T, f *Fixture)
	}{
		{"objects", testObjects}, {"sizes", testSizes}, {"keys", testKeys}, {"pages", testPages}, {"copies", testCopies},
		{"broken bodies", testBrokenBodies}, {"cancelled", testCancelled}, {"concurrent", testConcurrent},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, &f2) })
	}
	if f.Faults != nil {
		t.Run("faults", func(t *testing.T) { testFaults(t, &f2) })
		t.Run("lasting faults", func(t *testing.T) { testLastingFaults(t, &f2) })
	}
}

// foreign is a store of a kind which no store knows.
type foreign struct{ backup.Store }

// Put writes an object.
func Put(t testing.TB, s backup.Store, key string, data []byte) {
	t.Helper()
	if err := s.Put(t.Context(), key, bytes.NewReader(data), int64(len(data))); err != nil {
		t.Fatalf("cannot write %q: %s", key, err)
	}
}

// Get reads an object.
func Get(ctx context.Context, s backup.Store, key string) ([]byte, error) {
	r, err := s.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}

func want(t testing.TB, s backup.Store, key string, data []byte) {
	t.Helper()
	got, err := Get(t.Context(), s, key)
	if err != nil {
		t.Errorf("cannot read %q: %s", key, err)
	} else if !bytes.Equal(got, data) {
		t.Errorf("%q has %d bytes other than the %d written", key, len(got), len(data))
	}
}

func list(t testing.TB, s backup.Store) map[string]int64 {
	t.Helper()
	m := map[string]int64{}
	err := s.List(t.Context(), func(key string, size int64) {
		if _, ok := m[key]; ok {
			t.Errorf("%q is listed twice", key)
		}
		m[key] = size
	})
	if err != nil {
		t.Fatalf("cannot list %s: %s", s, err)
	}
	return m
}

func wantList(t testing.TB, s backup.Store, want map[string]int64) {
	t.Helper()
	if got := list(t, s); !maps.Equal(got, want) {
		t.Errorf("%s has %d objects %.500v, want %d %.500v", s, len(got), got, len(want), want)
	}
}

func random(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	return data
}

func testObjects(t *testing.T, f *Fixture) {
	s, neighbour := f.Open(t, "objects"), f.Open(t, "objects2")
	wantList(t, s, map[string]int64{})
	if _, err := s.Get(t.Context(), "mark"); errkind.Of(err) != errkind.NotFound {
		t.Errorf("a missing object: %v", err)
	}
	Put(t, s, "data/x/1", []byte("one"))
	Put(t, s, "data/x/2", nil)
	Put(t, s, "mark", []byte("whole"))
	Put(t, neighbour, "mark", []byte("of somebody else"))
	wantList(t, s, map[string]int64{"data/x/1": 3, "data/x/2": 0, "mark": 5})
	want(t, s, "data/x/1", []byte("one"))
	want(t, s, "data/x/2", nil)
	Put(t, s, "mark", []byte("changed"))
	want(t, s, "mark", []byte("changed"))
	for _, key := range []string{"data/x/1", "data/x/1", "mark"} {
		if err := s.Delete(t.Context(), key); err != nil {
			t.Errorf("cannot delete %q: %s", key, err)
		}
	}
	if _, err := s.Get(t.Context(), "mark"); errkind.Of(err) != errkind.NotFound {
		t.Errorf("a deleted object: %v", err)
	}
	wantList(t, s, map[string]int64{"data/x/2": 0})
	want(t, neighbour, "mark", []byte("of somebody else"))
}

func testSizes(t *testing.T, f *Fixture) {
	s, sizes := f.Open(t, "sizes"), map[string]int64{}
	for _, n := range []int{1, f.PartBytes - 1, f.PartBytes, f.PartBytes + 1, 2 * f.PartBytes, 2*f.PartBytes + f.PartBytes/2} {
		key, data := fmt.Sprint("data/", n), random(n)
		Put(t, s, key, data)
		want(t, s, key, data)
		sizes[key] = int64(n)
	}
	wantList(t, s, sizes)
	// A large object is replaced by a small one, and the other way round.
	large := random(2*f.PartBytes + 3)
	Put(t, s, "data/1", large)
	want(t, s, "data/1", large)
	Put(t, s, "data/1", []byte("1"))
	want(t, s, "data/1", []byte("1"))
}

func testKeys(t *testing.T, f *Fixture) {
	s, sizes := f.Open(t, "odd/k+e&y=%20s #1"), map[string]int64{}
	for i, key := range []string{
		"data/small/2026_11/18EA4CE0B2BEBB48/values.bin/0123456789abcdef0123456789abcdef_0000000000000000_00000000000a1b2c",
		"with spaces/and more", "per%cent%2F/x", "plus+and&amp;=?", "quote'\"`", "hash#tag;v=1", "(round)[square]{curly}", "a~b!c*d@e:f,g$h",
		"ümläute/日本語/😀", "dot./.dot/..dots", "<tag>/x^y|z", "-_.",
	} {
		data := []byte(strings.Repeat("x", i+1))
		Put(t, s, key, data)
		want(t, s, key, data)
		sizes[key] = int64(i + 1)
	}
	wantList(t, s, sizes)
	for key := range sizes {
		if err := s.Delete(t.Context(), key); err != nil {
			t.Errorf("cannot delete %q: %s", key, err)
		}
	}
	wantList(t, s, map[string]int64{})
}

func testPages(t *testing.T, f *Fixture) {
	s, sizes := f.Open(t, "pages"), map[string]int64{}
	for i := range f.Many {
		sizes[fmt.Sprintf("data/%05d", i)] = int64(i % 7)
	}
	each(t, slices.Collect(maps.Keys(sizes)), func(key string) error {
		return s.Put(t.Context(), key, bytes.NewReader(make([]byte, sizes[key])), sizes[key])
	})
	wantList(t, s, sizes)
	each(t, slices.Collect(maps.Keys(sizes)), func(key string) error { return s.Delete(t.Context(), key) })
	wantList(t, s, map[string]int64{})
}

// each calls do for the keys, several at once.
func each(t *testing.T, keys []string, do func(key string) error) {
	t.Helper()
	next := make(chan string)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for key := range next {
				if err := do(key); err != nil {
					t.Errorf("%q: %s", key, err)
				}
			}
		})
	}
	for _, key := range keys {
		next <- key
	}
	close(next)
	wg.Wait()
}

func testCopies(t *testing.T, f *Fixture) {
	from, to := f.Open(t, "from"), f.Open(t, "to")
	for i, n := range []int{0, 10, 2*f.PartBytes + 7} {
		key, data := fmt.Sprintf("data/a b+%d", i), random(n)
		Put(t, from, key, data)
		Put(t, to, key, []byte("which is replaced"))
		if ok, err := to.CopyFrom(t.Context(), from, key, int64(n)); !ok || err != nil {
			t.Errorf("not copied: %t, %v", ok, err)
		}
		want(t, to, key, data)
		if err := from.Delete(t.Context(), key); err != nil {
			t.Error(err)
		}
		want(t, to, key, data)
	}
	if ok, err := to.CopyFrom(t.Context(), from, "data/missing", 5); ok {
		t.Errorf("what is not there is copied: %v", err)
	}
	if _, err := to.Get(t.Context(), "data/missing"); errkind.Of(err) != errkind.NotFound {
		t.Errorf("what is not there is copied: %v", err)
	}
	if ok, err := to.CopyFrom(t.Context(), foreign{}, "data/x", 5); ok || err != nil {
		t.Errorf("copied from another kind of store: %t, %v", ok, err)
	}
}

// brokenBody fails at its end.
type brokenBody struct{ io.ReadSeeker }

var errBody = errors.New("the disk fails")

func (b brokenBody) Read(p []byte) (int, error) {
	n, err := b.ReadSeeker.Read(p)
	if errors.Is(err, io.EOF) {
		err = errBody
	}
	return n, err
}

func testBrokenBodies(t *testing.T, f *Fixture) {
	s := f.Open(t, "broken")
	Put(t, s, "mark", []byte("before"))
	for _, n := range []int{10, 2 * f.PartBytes} {
		err := s.Put(t.Context(), "mark", brokenBody{bytes.NewReader(random(n - 3))}, int64(n))
		if !errors.Is(err, errBody) {
			t.Errorf("a body of %d bytes which fails: %v", n, err)
		}
		if err := s.Put(t.Context(), "mark", bytes.NewReader(random(n-3)), int64(n)); err == nil {
			t.Errorf("a body of %d bytes which is too short is taken", n)
		}
	}
	want(t, s, "mark", []byte("before"))
	wantList(t, s, map[string]int64{"mark": 6})
}

func testCancelled(t *testing.T, f *Fixture) {
	s := f.Open(t, "cancelled")
	Put(t, s, "mark", []byte("before"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, n := range []int{10, 2 * f.PartBytes} {
		if err := s.Put(ctx, "mark", bytes.NewReader(random(n)), int64(n)); !errors.Is(err, context.Canceled) {
			t.Errorf("written although it was cancelled: %v", err)
		}
	}
	if _, err := Get(ctx, s, "mark"); !errors.Is(err, context.Canceled) {
		t.Errorf("read although it was cancelled: %v", err)
	}
	if err := s.List(ctx, func(string, int64) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("listed although it was cancelled: %v", err)
	}
	want(t, s, "mark", []byte("before"))
}

func testConcurrent(t *testing.T, f *Fixture) {
	s, bodies := f.Open(t, "concurrent"), map[string][]byte{}
	for i := range 12 {
		bodies[fmt.Sprint("data/", i)] = random(f.PartBytes/2 + i%3*f.PartBytes/2 + i)
	}
	each(t, slices.Collect(maps.Keys(bodies)), func(key string) error {
		if err := s.Put(t.Context(), key, bytes.NewReader(bodies[key]), int64(len(bodies[key]))); err != nil {
			return err
		}
		got, err := Get(t.Context(), s, key)
		if err == nil && !bytes.Equal(got, bodies[key]) {
			err = errors.New("it has other bytes")
		}
		return err
	})
}

// testFaults has things go wrong once or twice with all requests.
func testFaults(t *testing.T, f *Fixture) {
	s := f.Open(t, "faults")
	small, large := random(1000), random(3*f.PartBytes+1)
	Put(t, s, "small", small)
	Put(t, s, "large", large)
	ops := map[string]func(t *testing.T){
		"put small": func(t *testing.T) { Put(t, s, "new", small); want(t, s, "new", small) },
		"put large": func(t *testing.T) { Put(t, s, "new", large); want(t, s, "new", large) },
		"get small": func(t *testing.T) { want(t, s, "small", small) },
		"get large": func(t *testing.T) { want(t, s, "large", large) },
		"list": func(t *testing.T) {
			if got := list(t, s); got["large"] != int64(len(large)) || got["small"] != int64(len(small)) {
				t.Errorf("got %v", got)
			}
		},
		"delete": func(t *testing.T) {
			if err := s.Delete(t.Context(), "new"); err != nil {
				t.Error(err)
			}
		},
	}
	for _, op := range slices.Sorted(maps.Keys(ops)) {
		for name, faults := range map[string][]Fault{
			"unavailable":     {{Do: Unavailable, Times: 2}},
			"broken requests": {{Do: BreakRequest, Times: 2}},
			"broken answers":  {{Do: BreakAnswer, Times: 2}},
			"lost answers":    {{Do: LoseAnswer, Times: 1}},
			"silence":         {{Do: Hang, Times: 1}},
			"all of it":       {{Do: Unavailable, Times: 1}, {Do: BreakAnswer, Times: 1}, {Do: BreakRequest, Times: 1}},
		} {
			t.Run(op+"/"+name, func(t *testing.T) {
				if op == "delete" {
					Put(t, s, "new", small)
				}
				f.Faults.Set(faults...)
				ops[op](t)
				if left := f.Faults.Left(); left > 0 {
					t.Errorf("%d faults have not come: the test tests nothing", left)
				}
			})
		}
	}
}

// testLastingFaults has things go wrong that do not pass.
func testLastingFaults(t *testing.T, f *Fixture) {
	s := f.Open(t, "lasting")
	Put(t, s, "mark", []byte("before"))
	large := random(2*f.PartBytes + 1)
	try := map[string]func() error{
		"put":       func() error { return s.Put(t.Context(), "mark", bytes.NewReader(large[:9]), 9) },
		"put large": func() error { return s.Put(t.Context(), "mark", bytes.NewReader(large), int64(len(large))) },
		"get":       func() error { _, err := Get(t.Context(), s, "mark"); return err },
		"list":      func() error { return s.List(t.Context(), func(string, int64) {}) },
		"delete":    func() error { return s.Delete(t.Context(), "mark") },
	}
	for op, do := range try {
		for _, c := range []struct {
			do   Action
			kind errkind.Kind
			most int // requests
		}{{Unavailable, errkind.Internal, 60}, {BreakRequest, errkind.Internal, 60}, {Hang, errkind.Internal, 60}, {Forbidden, errkind.Unauthorized, 3}} {
			if c.do == Hang && op != "put large" {
				continue // it takes as long as all attempts together
			}
			before := f.Faults.Requests()
			f.Faults.Set(Fault{Do: c.do, Times: -1})
			err := do()
			f.Faults.Set()
			if err == nil {
				t.Errorf("%s succeeds although fault %d lasts", op, c.do)
			} else if c.kind != errkind.Internal && errkind.Of(err) != c.kind {
				t.Errorf("%s with fault %d: %v", op, c.do, err)
			}
			if n := f.Faults.Requests() - before; n > c.most {
				t.Errorf("%s with fault %d makes %d requests", op, c.do, n)
			}
		}
		want(t, s, "mark", []byte("before"))
	}
	// Bytes which change on their way are refused, by the service or by the store.
	for _, n := range []int{1000, len(large)} {
		f.Faults.Set(Fault{Method: "PUT", Do: Damage, Times: -1}, Fault{Method: "POST", Arg: "uploadType=multipart", Do: Damage, Times: -1})
		err := s.Put(t.Context(), "mark", bytes.NewReader(large[:n]), int64(n))
		f.Faults.Set()
		if err == nil {
			t.Errorf("%d bytes of which one has changed are taken", n)
		}
	}
	want(t, s, "mark", []byte("before"))
}
