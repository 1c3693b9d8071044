package httpserver

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func TestAcceptedEncoding(t *testing.T) {
	for header, want := range map[string]encoding{
		"": encodingNone, "gzip": encodingGzip, "GZIP ;q=0.5": encodingGzip, "gzip;q=0": encodingNone, "br": encodingNone, "deflate, gzip": encodingGzip,
		"gzip, deflate, br, zstd": encodingZstd, "zstd;q=0, gzip": encodingGzip, "gzip;q=x": encodingNone, "notgzip": encodingNone, "identity": encodingNone,
	} {
		if got := acceptedEncoding(header); got != want {
			t.Errorf("%q: %q, want %q", header, got, want)
		}
	}
}

// TestPooledCompression asks from several clients, so that writers are used again.
func TestPooledCompression(t *testing.T) {
	base, _ := start(t)
	_, want := get(t, "GET", base+"/app?n=123456123456", nil)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				resp, body := get(t, "GET", base+"/app?n=123456123456", func(r *http.Request) { r.Header.Set("Accept-Encoding", "gzip, zstd") })
				z, err := zstd.NewReader(strings.NewReader(body), zstd.WithDecoderConcurrency(1))
				if err != nil {
					t.Error(err)
					return
				}
				var b strings.Builder
				if _, err = z.WriteTo(&b); err != nil || b.String() != want || resp.Header.Get("Content-Encoding") != "zstd" || len(body) > 1000 {
					t.Errorf("%d bytes of %q, %d of them plain, error %v", len(body), resp.Header.Get("Content-Encoding"), b.Len(), err)
				}
				z.Close()
			}
		})
	}
	wg.Wait()
}

func BenchmarkCompressor(b *testing.B) {
	answer := []byte(strings.Repeat(`{"metric":{"__name__":"cpu_usage","instance":"a"},"values":[[1717200000,"1.25"],[1717200060,"7.5"]]},`, 640))
	for _, e := range []encoding{encodingGzip, encodingZstd} {
		b.Run(string(e), func(b *testing.B) {
			var pool compressors
			var out countingWriter
			b.ReportAllocs()
			b.SetBytes(int64(len(answer)))
			for b.Loop() {
				out = 0
				z, err := pool.get(e, &out)
				if err != nil {
					b.Fatal(err)
				}
				if _, err = z.Write(answer); err != nil || z.Close() != nil {
					b.Fatal(err)
				}
				pool.put(e, z)
			}
			b.ReportMetric(float64(out), "bytes")
		})
	}
}

type countingWriter int

func (w *countingWriter) Write(p []byte) (int, error) {
	*w += countingWriter(len(p))
	return len(p), nil
}
