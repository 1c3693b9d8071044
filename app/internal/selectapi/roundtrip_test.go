package selectapi_test

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// transfer is a form in which series are exported, and imported again.
type transfer struct {
	export, exportArgs string
	imports            string // path and arguments
	anyValue           bool   // payloads of NaN come through
}

// TestRoundTrip exports a tenant in every form, imports the answer as another one, and compares all bits.
func TestRoundTrip(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 5))
	s := startServers(t)
	client := &http.Client{}
	t.Cleanup(client.CloseIdleConnections)
	for i, f := range []transfer{
		{export: "export/native", imports: "import/native", anyValue: true},
		{export: "export", exportArgs: "&values=bits", imports: "import?values=bits", anyValue: true},
		{export: "export", exportArgs: "&values=bits&max_rows_per_line=7", imports: "import?values=bits", anyValue: true},
		{export: "export", imports: "import"},
		{export: "export", exportArgs: "&reduce_mem_usage=1&max_rows_per_line=100", imports: "import"},
		{export: "export", exportArgs: "&format=prometheus", imports: "import/prometheus"},
		{export: "export/csv", exportArgs: "&format=__name__,job,odd,__value__,__timestamp__:unix_ms",
			imports: "import/csv?format=1:label:__name__,2:label:job,3:label:odd,4:metric:value,5:time:unix_ms"},
		{export: "export/csv", exportArgs: "&format=__timestamp__:unix_ns,__value__,odd,job,__name__",
			imports: "import/csv?format=5:label:__name__,4:label:job,3:label:odd,2:metric:value,1:time:unix_ns"},
	} {
		from, to := fmt.Sprintf("%d", 5000+2*i), fmt.Sprintf("%d:1", 5000+2*i)
		post(t, client, s.bases["vminsert"]+"/insert/"+from+"/prometheus/api/v1/import?values=bits", randomLines(rng, f.anyValue))
		all := "?match[]=" + url.QueryEscape(`{__name__!=""}`) + "&start=0"
		dump := get(t, client, s.bases["vmselect"]+"/select/"+from+"/prometheus/api/v1/"+f.export+all+f.exportArgs)
		post(t, client, s.bases["vminsert"]+"/insert/"+to+"/prometheus/api/v1/"+f.imports, dump)
		want := get(t, client, s.bases["vmselect"]+"/select/"+from+"/prometheus/api/v1/export"+all+"&values=bits")
		got := get(t, client, s.bases["vmselect"]+"/select/"+to+"/prometheus/api/v1/export"+all+"&values=bits")
		if got != want || want == "" {
			t.Errorf("%+v: %d bytes of export\n got %.2000s\nwant %.2000s", f, len(dump), got, want)
		}
	}
}

// TestExportRange exports a part of the samples natively: as many of them as JSON lines have.
func TestExportRange(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 6))
	s := startServers(t)
	client := &http.Client{}
	t.Cleanup(client.CloseIdleConnections)
	post(t, client, s.bases["vminsert"]+"/insert/1/prometheus/api/v1/import?values=bits", randomLines(rng, true))
	for i := range 20 {
		start := base + rng.Int64N(spread)
		part := fmt.Sprintf("?match[]=%s&start=%f&end=%f", url.QueryEscape(`{__name__!=""}`), float64(start)/1e3, float64(start+rng.Int64N(spread))/1e3)
		tenant := fmt.Sprintf("2:%d", i)
		post(t, client, s.bases["vminsert"]+"/insert/"+tenant+"/prometheus/api/v1/import/native",
			get(t, client, s.bases["vmselect"]+"/select/1/prometheus/api/v1/export/native"+part))
		want := get(t, client, s.bases["vmselect"]+"/select/1/prometheus/api/v1/export"+part+"&values=bits")
		got := get(t, client, s.bases["vmselect"]+"/select/"+tenant+"/prometheus/api/v1/export?match[]="+url.QueryEscape(`{__name__!=""}`)+"&values=bits")
		if got != want {
			t.Errorf("%s:\n got %.1000s\nwant %.1000s", part, got, want)
		}
	}
}

const (
	base   = int64(1717200000000)
	spread = int64(3600_000)
)

// randomLines returns series with random timestamps and values as JSON lines, the values as bits.
func randomLines(rng *rand.Rand, anyValue bool) string {
	var b strings.Builder
	for i := range 1 + rng.IntN(20) {
		n := 1 + rng.IntN(300)
		var times []int64
		for range n {
			times = append(times, base+rng.Int64N(spread))
		}
		slices.Sort(times)
		times = slices.Compact(times)
		odd := []string{`tab\tand \"quotes\"`, `comma, new\nline \\`, "ünïcode", ""}[rng.IntN(4)]
		fmt.Fprintf(&b, `{"metric":{"__name__":"m%d","job":"j%d","odd":"%s"},"values":[`, i, rng.IntN(3), odd)
		for j := range times {
			if j > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `"%016x"`, math.Float64bits(randomValue(rng, anyValue)))
		}
		b.WriteString(`],"timestamps":` + strings.ReplaceAll(fmt.Sprint(times), " ", ",") + "}\n")
	}
	return b.String()
}

func randomValue(rng *rand.Rand, anyValue bool) float64 {
	switch rng.IntN(8) {
	case 0:
		return math.Inf(1 - 2*rng.IntN(2))
	case 1:
		return math.Copysign(0, -1)
	case 2, 3:
		if v := math.Float64frombits(rng.Uint64()); anyValue || !math.IsNaN(v) {
			return v
		}
	case 4:
		if anyValue {
			return math.Float64frombits(0x7ff0000000000002) // a stale marker
		}
	}
	return float64(rng.IntN(1000)) / 8
}

func post(t *testing.T, client *http.Client, address, body string) {
	t.Helper()
	resp, err := client.Post(address, "", bytes.NewBufferString(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusNoContent || resp.Header.Get("X-Rows-Dropped")+resp.Header.Get("X-Rows-Invalid") != "" {
		t.Fatalf("%s: %d %s %v %v", address, resp.StatusCode, text, resp.Header, err)
	}
}

func get(t *testing.T, client *http.Client, address string) string {
	t.Helper()
	resp, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s %v", address, resp.StatusCode, text, err)
	}
	return string(text)
}
