package storage_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEveryDecoderIsFuzzed: every file of the storage stack which decodes bytes from a disk or a peer belongs to a package
// with a fuzz target that is named here. A new decoder file has to be added with its target.
func TestEveryDecoderIsFuzzed(t *testing.T) {
	targets := map[string]string{ // by package
		"wal":                        "FuzzSegment",
		"codec":                      "Fuzz",
		"tsblock":                    "Fuzz",
		"model":                      "Fuzz",
		"nativehistogram":            "Fuzz",
		"insertrpc":                  "Fuzz",
		"selectrpc":                  "Fuzz",
		"transport":                  "Fuzz",
		"storage":                    "Fuzz",
		"storage/internal/partition": "Fuzz",
		"storage/internal/part":      "Fuzz",
		"storage/internal/index":     "Fuzz",
	}
	decoder := regexp.MustCompile(`(?m)^func (\([^)]*\) )?(parse|decode|Parse|Decode|Cut|unmarshal)[A-Z][A-Za-z]*\([^)]*\[\]byte`)
	root := ".."
	var without []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		pkg := filepath.ToSlash(filepath.Dir(path))[len(root)+1:]
		if pkg != "wal" && !slices.ContainsFunc([]string{"storage", "codec", "tsblock", "nativehistogram", "model", "insertrpc", "selectrpc", "transport"}, func(p string) bool {
			return pkg == p || strings.HasPrefix(pkg, p+"/")
		}) {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if decoder.Match(source) && targets[pkg] == "" {
			without = append(without, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range without {
		t.Errorf("%s decodes bytes, and its package has no fuzz target in this list", path)
	}
	for pkg, name := range targets {
		if !hasFuzzTarget(t, filepath.Join(root, pkg), name) {
			t.Errorf("package %s has no fuzz target %s", pkg, name)
		}
	}
}

func hasFuzzTarget(t *testing.T, dir, name string) bool {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		source, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(source), "\nfunc "+name) {
			return true
		}
	}
	return false
}
