package lineports

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func (s *servers) send(t *testing.T, network, port, text string) {
	t.Helper()
	conn, err := net.Dial(network, s.addrs[port])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil || conn.Close() != nil {
		t.Fatal(err)
	}
}

func TestEveryProtocolOverTCPAndUDP(t *testing.T) {
	for _, single := range []bool{true, false} {
		s := start(t, single)
		for port, line := range map[string]string{
			"influx": "m,vm_account_id=5,a=b f=1 1717200000", "graphite": "m_f;vm_account_id=5;a=b 1 1717200000", "opentsdb": "put m_f 1717200000 1 vm_account_id=5 a=b",
		} {
			want := "tenant 5:0 m_f{a=\"b\"}\t1717200000000\t1"
			if single {
				want = "tenant 0:0 m_f{a=\"b\",vm_account_id=\"5\"}\t1717200000000\t1"
			}
			for _, network := range []string{"tcp", "udp"} {
				s.send(t, network, port, "no line of any protocol\n"+line)
				var got []string
				eventually(t, port+" over "+network, func() bool { got = append(got, s.take()...); return len(got) > 0 })
				if !slices.Equal(got, []string{want}) {
					t.Errorf("%s over %s: %q; want %q", port, network, got, want)
				}
			}
			eventually(t, "counters of "+port, func() bool {
				return s.set.Counter(fmt.Sprintf("vm_rows_invalid_total{type=%q}", port)).Get() == 2 && s.set.Counter(fmt.Sprintf("vm_rows_inserted_total{type=%q}", port)).Get() == 2
			})
		}
	}
}

// TestStorageIsGoneForAWhile checks that lines wait for the storage, and that HTTP senders get their turn meanwhile.
func TestStorageIsGoneForAWhile(t *testing.T) {
	s := start(t, true, "-maxConcurrentInserts=1")
	s.mu.Lock()
	s.fails = 3
	s.mu.Unlock()
	s.send(t, "tcp", "graphite", "a 1 1717200000\nb 2 1717200000\n")
	eventually(t, "the storage refuses", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.fails < 3 })
	resp, err := http.Post("http://"+s.addrs["http"]+"/write", "", strings.NewReader("m f=1"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	var got []string
	eventually(t, "rows", func() bool {
		for _, row := range s.take() {
			if !strings.Contains(row, "m_f") {
				got = append(got, row)
			}
		}
		return len(got) >= 2
	})
	if want := []string{"tenant 0:0 a\t1717200000000\t1", "tenant 0:0 b\t1717200000000\t2"}; !slices.Equal(got, want) {
		t.Errorf("rows %q; want %q", got, want)
	}
}

// TestStopStoresAll checks that what senders wrote before the process stops is stored.
func TestStopStoresAll(t *testing.T) {
	s := start(t, false)
	var text strings.Builder
	const lines = 30_000
	for i := range lines {
		fmt.Fprintf(&text, "m;i=%d 1 1717200000\n", i)
	}
	s.send(t, "tcp", "graphite", text.String())
	s.stop()
	if got := len(s.take()); got != lines {
		t.Errorf("%d rows; want %d", got, lines)
	}
}

func TestInfluxPaths(t *testing.T) {
	for _, single := range []bool{true, false} {
		s := start(t, single)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		for path, want := range map[string][2]int{ // status of the single node, of vminsert
			"/write": {204, 400}, "/api/v2/write": {204, 400}, "/influx/write": {204, 400}, "/query": {200, 400}, "/influx/ping": {204, 400}, "/prometheus/influx/write": {204, 400},
			"/insert/0/influx/write": {400, 204}, "/insert/influx/write": {400, 204}, "/insert/0/influx/query": {400, 200}, "/insert/x/influx/query": {400, 400},
			"/insert/0:7/influx/ping": {400, 204}, "/insert/0/write": {400, 400}, "/influx/other": {400, 400},
		} {
			resp, err := client.Post("http://"+s.addrs["http"]+path, "", strings.NewReader("m f=1"))
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != want[map[bool]int{true: 0, false: 1}[single]] {
				t.Errorf("single node %v: %s: status %d", single, path, resp.StatusCode)
			}
		}
	}
}
