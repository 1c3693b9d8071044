package fileurl

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/text" {
			http.NotFound(w, r)
			return
		}
		_, _ = fmt.Fprint(w, "12345")
	}))
	defer server.Close()
	path := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(path, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{path, server.URL + "/text"} {
		if got, err := Read(t.Context(), from, 5); err != nil || string(got) != "12345" {
			t.Errorf("%s: %q, %v", from, got, err)
		}
		if _, err := Read(t.Context(), from, 4); err == nil || !strings.Contains(err.Error(), "more than 4 bytes") {
			t.Errorf("%s: %v", from, err)
		}
	}
	secret := strings.Replace(server.URL, "http://", "http://user:secret@", 1)
	for from, want := range map[string]string{
		path + "x":               "no such file",
		secret + "/missing":      "404",
		secret + "x/text":        "",
		"http://user:secret@%zz": "",
	} {
		if _, err := Read(t.Context(), from, 5); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", from, err)
		}
	}
}
