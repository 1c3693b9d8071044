package insertrpc

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi/apitest"
)

func TestExemplarConformance(t *testing.T) {
	apitest.RunExemplars(t, func(t *testing.T) apitest.ExemplarTarget {
		n := newNode(t)
		n.serve(func(o *ServerOptions) { o.Exemplars = n.store })
		return apitest.ExemplarTarget{Writer: n.client(nil), Reader: n.store}
	})
}

// TestExemplarsNotOffered has a server as they were before there were exemplars: it is not asked once the client knows.
func TestExemplarsNotOffered(t *testing.T) {
	n := newNode(t)
	n.serve(nil)
	c := n.client(nil)
	if err := c.AddMetadata(t.Context(), []model.Metadata{{Metric: "m"}}); errkind.Of(err) != errkind.Unsupported { // now there is a connection
		t.Fatal(err)
	}
	if err := c.AddExemplars(t.Context(), []model.Exemplar{apitest.Exemplar(model.TenantID{}, "m", "x", "1", 1)}); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("error %v", err)
	}
	if got := n.metric("vm_vminsert_exemplars_read_total"); got != "0" {
		t.Errorf("%s exemplars were read", got)
	}
}

func TestExemplarsGolden(t *testing.T) {
	r := exemplarRequest{list: []model.Exemplar{
		apitest.Exemplar(model.TenantID{AccountID: 1, ProjectID: 2}, "m", "x", "1", 1000),
		apitest.Exemplar(model.TenantID{AccountID: 1, ProjectID: 2}, "m", "x", "2", 2000),
		apitest.Exemplar(model.TenantID{}, "n", "x", "3", 3000),
	}}
	got, err := r.AppendRequest(nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "exemplars.hex")
	if *update {
		if err := os.WriteFile(path, []byte(hex.Dump(got)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || hex.Dump(got) != string(want) {
		t.Errorf("the request is now\n%s\nand was\n%s%v", hex.Dump(got), want, err)
	}
	if list, err := decodeExemplars(got); err != nil || !apitest.SameExemplars(list, r.list) {
		t.Errorf("%+v, %v", list, err)
	}
}
