package insertrpc

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi/apitest"
)

func TestMetadataConformance(t *testing.T) {
	apitest.RunMetadata(t, func(t *testing.T) apitest.MetadataTarget {
		n := newNode(t)
		n.serve(func(o *ServerOptions) { o.Metadata = n.store })
		return apitest.MetadataTarget{Writer: n.client(nil), Reader: n.store}
	})
}

func TestMetadataNotOffered(t *testing.T) {
	n := newNode(t)
	n.serve(nil)
	err := n.client(nil).AddMetadata(t.Context(), []model.Metadata{{Metric: "m"}})
	if errkind.Of(err) != errkind.Unsupported {
		t.Errorf("error %v", err)
	}
}

// TestMetadataLeftOut sends a description that is too long among others.
func TestMetadataLeftOut(t *testing.T) {
	n := newNode(t)
	n.serve(func(o *ServerOptions) { o.Metadata = n.store })
	list := []model.Metadata{{Metric: "a"}, {Metric: "b", Help: strings.Repeat("x", maxMetadataBytes)}, {Metric: "c"}}
	if err := n.client(nil).AddMetadata(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	if got := n.metric("vm_vminsert_metadata_read_total"); got != "2" {
		t.Errorf("%s descriptions were read", got)
	}
}

func TestMetadataGolden(t *testing.T) {
	r := metadataRequest{list: []model.Metadata{
		{Tenant: model.TenantID{AccountID: 1, ProjectID: 2}, Metric: "requests_total", Type: model.TypeCounter, Help: "Requests."},
		{Metric: "duration_seconds", Type: model.TypeHistogram, Unit: "seconds"},
	}}
	got, err := r.AppendRequest(nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "metadata.hex")
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

func FuzzMetadata(f *testing.F) {
	r := metadataRequest{list: []model.Metadata{{Metric: "m", Help: "h"}, {Metric: "n", Unit: "u"}}}
	seed, _ := r.AppendRequest(nil, 0) // fails never
	f.Add(seed)
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) == 0 {
			return
		}
		list, err := decodeMetadata(src)
		if err != nil {
			if errkind.Of(err) != errkind.Corrupt {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		again, _ := (&metadataRequest{list: list}).AppendRequest(nil, 0) // fails never
		if second, err := decodeMetadata(again); err != nil || len(second) != len(list) || bytes.Equal(again, nil) {
			t.Fatalf("%d descriptions become %d, %v", len(list), len(second), err)
		}
	})
}
