package storage

import (
	"path"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi/apitest"
	"vmcluster/lib/vfs/memfs"
)

// TestCheck counts what is in a copy of a snapshot, and finds parts and series that would not be there.
func TestCheck(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	s := openTest(t, testConfig(), testOptions(fsys))
	defer closeTest(t, s)
	for i := range int64(3) {
		write(t, s, model.TenantID{AccountID: uint32(i)}, apitest.DefaultBase, apitest.DefaultBase+1000, apitest.DefaultBase-40*dayMs)
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	from := path.Join(testPath, "snapshots", snapshot(t, s))
	check := func(damage func(name string) bool, change func(name string) error) (Contents, error) {
		if err := fsys.RemoveAll("/copy"); err != nil {
			t.Fatal(err)
		}
		copyDir(t, fsys, from, "/copy")
		files, err := ListFiles(fsys, "/copy")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if damage(f.Path) {
				if err := change("/copy/" + f.Path); err != nil {
					t.Fatal(err)
				}
			}
		}
		cfg := testConfig()
		cfg.DataPath = "/copy"
		o := testOptions(fsys)
		c, err := Check(cfg, o)
		if n := o.Budget.Used(); n != 0 {
			t.Errorf("%d bytes of the budget are still in use", n)
		}
		return c, err
	}
	st := s.sum()
	want := Contents{Months: 2, Parts: int(st.Small.Parts + st.Big.Parts), Rows: 9, Series: 6}
	if c, err := check(func(string) bool { return false }, nil); err != nil || c != want {
		t.Fatalf("got %+v, %v; want %+v", c, err, want)
	}
	for _, name := range []string{"/values", "/blocks", "/meta.json"} {
		_, err := check(func(file string) bool { return strings.HasSuffix(file, name) }, func(file string) error { return fsys.Truncate(file, 10) })
		if errkind.Of(err) != errkind.Corrupt {
			t.Errorf("cut %s gives %v", name, err)
		}
	}
	if _, err := check(func(file string) bool { return strings.Contains(file, "/index/") }, fsys.RemoveAll); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("no index gives %v", err)
	}
	if c, err := Check(Config{}, testOptions(fsys)); err == nil {
		t.Errorf("got %+v", c)
	}
}
