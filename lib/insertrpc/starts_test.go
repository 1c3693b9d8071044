package insertrpc

import (
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi/apitest"
)

// startsTaker remembers starts.
type startsTaker struct{ got []model.Start }

func (s *startsTaker) AddStarts(_ context.Context, list []model.Start) error {
	s.got = append(s.got, list...)
	return nil
}

func someStarts() (list []model.Start) {
	for i, name := range []string{"a", "b"} {
		list = append(list, model.Start{Series: apitest.Exemplar(model.TenantID{AccountID: 1}, name, "x", "", 0).Series, Timestamp: 1_700_000_000_000 + int64(i)})
	}
	return list
}

func sameStarts(a, b []model.Start) bool {
	return slices.EqualFunc(a, b, func(a, b model.Start) bool { return string(a.Series) == string(b.Series) && a.Timestamp == b.Timestamp })
}

func TestStarts(t *testing.T) {
	n := newNode(t)
	taker := &startsTaker{}
	n.serve(func(o *ServerOptions) { o.Starts = taker })
	if err := n.client(nil).AddStarts(t.Context(), someStarts()); err != nil || !sameStarts(taker.got, someStarts()) {
		t.Errorf("%+v, %v", taker.got, err)
	}
}

func TestStartsNotOffered(t *testing.T) {
	n := newNode(t)
	n.serve(nil)
	if err := n.client(nil).AddStarts(t.Context(), someStarts()); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("error %v", err)
	}
}

func TestStartsGolden(t *testing.T) {
	r := startRequest{list: someStarts()}
	got, err := r.AppendRequest(nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "starts.hex")
	if *update {
		if err := os.WriteFile(path, []byte(hex.Dump(got)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || hex.Dump(got) != string(want) {
		t.Errorf("the request is now\n%s\nand was\n%s%v", hex.Dump(got), want, err)
	}
}

func FuzzStarts(f *testing.F) {
	seed, _ := (&startRequest{list: someStarts()}).AppendRequest(nil, 0) // fails never
	f.Add(seed)
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) == 0 {
			return
		}
		list, err := decodeStarts(src)
		if err != nil {
			if errkind.Of(err) != errkind.Corrupt {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		again, _ := (&startRequest{list: list}).AppendRequest(nil, 0) // fails never
		if second, err := decodeStarts(again); err != nil || !sameStarts(second, list) {
			t.Fatalf("%d starts become %d, %v", len(list), len(second), err)
		}
	})
}
