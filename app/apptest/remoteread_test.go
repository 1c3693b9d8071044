package apptest

import (
	"bytes"
	enc "encoding/binary"
	"fmt"
	"hash/crc32"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// TestPrometheusReads: a Prometheus without data of its own answers queries over what we have, by remote read.
func TestPrometheusReads(t *testing.T) {
	prometheus := peer(t, "prometheus")
	t.Parallel()
	c := startCluster(t, clusterOptions{})
	s := startSingle(t)
	at := anHourAgo()
	for i, target := range []string{c.writeURL("12:3") + "/api/v1/write", s.url("/api/v1/write")} {
		var list []ts
		for _, room := range []string{"hall", "kitchen", "a"} {
			x := series("__name__", "temperature", "room", room, "Floor", "1", "store", fmt.Sprint(i))
			for k := range 61 {
				x = x.at(at+int64(k)*15000, float64(len(room)*100+k))
			}
			list = append(list, x)
		}
		mustWrite(t, target, list...)
	}
	base := startReader(t, prometheus, c.readURL("12:3")+"/api/v1/read", s.url("/api/v1/read"), s.url("/prometheus/api/v1/read?extra_label=room=nosuch"))
	end := at + 60*15000
	for _, tc := range []struct {
		query string
		want  []string
	}{
		{`temperature{room="hall"}`, []string{`temperature{Floor="1",room="hall",store="0"} 460`, `temperature{Floor="1",room="hall",store="1"} 460`}},
		{`sum by (room) (temperature{room!~"h.*",store="0"})`, []string{`{room="a"} 160`, `{room="kitchen"} 760`}},
		{`sum by (store) (increase(temperature[10m]))`, []string{`{store="0"} 120`, `{store="1"} 120`}},
		{`count(temperature offset 5m)`, []string{`{} 6`}},
		{`max_over_time(temperature{room=~"a|k.+",store!="0"}[15m])`, []string{`{Floor="1",room="a",store="1"} 160`, `{Floor="1",room="kitchen",store="1"} 760`}},
	} {
		got := vector(t, parseQuery(t, get(t, base+"/api/v1/query", "query", tc.query, "time", seconds(end))))
		if !slices.Equal(slices.Sorted(slices.Values(got)), tc.want) {
			t.Errorf("%s: got %q, want %q", tc.query, got, tc.want)
		}
	}
	get(t, base+"/api/v1/query", "query", `{__name__=~".+",room="hall"}[1h]`, "time", seconds(end)).want(t, http.StatusOK, `"460"`)
}

// startReader starts a Prometheus which scrapes nothing and reads from the given addresses.
func startReader(t *testing.T, prometheus string, targets ...string) (base string) {
	t.Helper()
	config := "remote_read:\n"
	for _, target := range targets {
		config += fmt.Sprintf("- {url: '%s', read_recent: true}\n", target)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	start(t, spec{binary: prometheus, args: []string{
		"--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + addr, "--log.level=warn",
	}})
	base = "http://" + addr
	eventually(t, startTimeout, "Prometheus to be ready", func() error {
		a, err := do(http.MethodGet, base+"/-/ready", nil)
		if err == nil && a.status != http.StatusOK {
			err = fmt.Errorf("status %d", a.status)
		}
		return err
	})
	return base
}

// TestStreamedRead reads chunks as newer versions of Prometheus do.
func TestStreamedRead(t *testing.T) {
	t.Parallel()
	s := startSingle(t)
	var list []ts
	for _, room := range []string{"kitchen", "hall"} {
		x := series("__name__", "temperature", "room", room)
		for k := range 1000 {
			x = x.at(fixed+int64(k)*1000, float64(k)/8)
		}
		list = append(list, x)
	}
	mustWrite(t, s.url("/api/v1/write"), list...)
	body, err := (&prompb.ReadRequest{
		Queries:               []*prompb.Query{{StartTimestampMs: fixed, EndTimestampMs: fixed + 499_999, Matchers: []*prompb.LabelMatcher{{Name: "__name__", Value: "temperature"}}}},
		AcceptedResponseTypes: []prompb.ReadRequest_ResponseType{prompb.ReadRequest_STREAMED_XOR_CHUNKS},
	}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	a := request(t, http.MethodPost, s.url("/prometheus/api/v1/read"), snappy.Encode(nil, body), "Content-Encoding", "snappy", "Content-Type", "application/x-protobuf").want(t, http.StatusOK)
	rest := []byte(a.body)
	for _, room := range []string{"hall", "kitchen"} {
		var m prompb.ChunkedReadResponse
		rest = cutFrame(t, rest, &m)
		x := m.ChunkedSeries[0]
		if len(x.Labels) != 2 || x.Labels[1].Value != room {
			t.Fatalf("labels are %v, want those of %s", x.Labels, room)
		}
		n := 0
		for _, c := range x.Chunks {
			chunk, err := chunkenc.FromData(chunkenc.EncXOR, c.Data)
			if err != nil {
				t.Fatal(err)
			}
			for it := chunk.Iterator(nil); it.Next() != chunkenc.ValNone; n++ {
				if at, v := it.At(); at != fixed+int64(n)*1000 || v != float64(n)/8 {
					t.Fatalf("sample %d of %s is %v@%d", n, room, v, at)
				}
			}
		}
		if n != 500 {
			t.Errorf("%s has %d samples, want 500", room, n)
		}
	}
	if len(rest) > 0 {
		t.Errorf("%d bytes are left", len(rest))
	}
}

// cutFrame decodes the frame at the front of a stream and returns what follows it.
func cutFrame(t *testing.T, stream []byte, m *prompb.ChunkedReadResponse) []byte {
	t.Helper()
	r := bytes.NewReader(stream)
	size, err := enc.ReadUvarint(r)
	if err != nil || uint64(r.Len()) < size+4 {
		t.Fatalf("no whole frame in %d bytes: %v", len(stream), err)
	}
	rest := stream[len(stream)-r.Len():]
	message := rest[4 : 4+size]
	if enc.BigEndian.Uint32(rest) != crc32.Checksum(message, crc32.MakeTable(crc32.Castagnoli)) {
		t.Fatal("the checksum is wrong")
	}
	if err := m.Unmarshal(message); err != nil {
		t.Fatal(err)
	}
	return rest[4+size:]
}
