//go:build unix

package transport

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcluster/lib/certfiles"
	"vmcluster/lib/certfiles/certtest"
)

// BenchmarkCall makes small calls, large requests and streams over TCP, plain and with TLS. The whole process counts, which is both ends.
func BenchmarkCall(b *testing.B) {
	files := certtest.NewCA(b, "ca").Write(b, b.TempDir(), certtest.Leaf{})
	for _, transport := range []string{"plain", "tls"} {
		var s *certfiles.Settings
		if transport == "tls" {
			s = demanding(files)
		}
		for _, work := range []string{"small", "request_64KiB", "stream_1MB"} {
			b.Run(work+"/"+transport, func(b *testing.B) { benchmarkCall(b, s, work) })
		}
	}
}

func benchmarkCall(b *testing.B, s *certfiles.Settings, work string) {
	f := newSecureFixture(b, s, nil)
	c := f.client(s)
	if _, err := call(c, "e"); err != nil {
		b.Fatal(err)
	}
	run := map[string]func() error{
		"small":         func() error { _, err := call(c, "e a small request"); return err },
		"request_64KiB": func() error { return discard(c, "d"+strings.Repeat("x", 64<<10), 1) },
		"stream_1MB":    func() error { return discard(c, "s", 1000) },
	}[work]
	b.ReportAllocs()
	cpu := cpuTime(b)
	for b.Loop() {
		if err := run(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N), "cpu-ns/op")
}

// discard makes a call and reads some frames of the answer.
func discard(c *Client, request string, frames int) error {
	stream, err := c.Start(context.Background(), text(request))
	if err != nil {
		return err
	}
	defer stream.Close()
	for range frames {
		if _, _, err := stream.Recv(context.Background()); err != nil {
			return err
		}
	}
	return nil
}

// cpuTime returns the time which the process has computed.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
