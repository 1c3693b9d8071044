package tests

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// instruction is one of a Containerfile, with its flags among the arguments.
type instruction struct{ name, args string }

// containerfile reads deployment/docker/<component>/Containerfile.
func containerfile(t *testing.T, component string) []instruction {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../docker", component, "Containerfile"))
	if err != nil {
		t.Fatal(err)
	}
	var list []instruction
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, args, _ := strings.Cut(line, " ")
		if strings.HasSuffix(line, "\\") || name != strings.ToUpper(name) {
			t.Fatalf("%s: %q is more than this reader understands", component, line)
		}
		list = append(list, instruction{name, strings.TrimSpace(args)})
	}
	return list
}

// only returns the arguments of an instruction which occurs once at most.
func only(t *testing.T, list []instruction, name string) string {
	t.Helper()
	args, n := "", 0
	for _, i := range list {
		if i.name == name {
			args, n = i.args, n+1
		}
	}
	if n > 1 {
		t.Errorf("there are %d instructions %s", n, name)
	}
	return args
}

// ports are what the containers of a component expose, in the order of the Containerfile: the one of HTTP first.
func ports(component string) string {
	return map[string]string{
		"vmstorage": "8482 8400 8401", "vminsert": "8480", "vmselect": "8481", "victoria-metrics": "8428", "vmbackupmanager": "8300",
	}[component]
}

// TestContainerfiles: each binary has one, all of which begin alike, and their containers are what the documents promise.
func TestContainerfiles(t *testing.T) {
	files, err := filepath.Glob("../docker/*/Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		found = append(found, filepath.Base(filepath.Dir(file)))
	}
	components := componentsOf(t)
	slices.Sort(components)
	if !slices.Equal(found, components) {
		t.Errorf("there are Containerfiles of %q; the Makefile builds %q", found, components)
	}
	ignored := ignore(t)
	for _, component := range found {
		t.Run(component, func(t *testing.T) {
			list := containerfile(t, component)
			build := slices.IndexFunc(list, func(i instruction) bool { return i.name == "FROM" && i.args == "${BASE}" })
			if build < 0 {
				t.Fatal("nothing begins with FROM ${BASE}")
			}
			shared := containerfile(t, "vmstorage")[:build]
			for n := range build {
				if want := strings.ReplaceAll(shared[n].args, "vmstorage", component); list[n].args != want {
					t.Errorf("instruction %d is %v; want %q as in the others", n+1, list[n], want)
				}
			}
			checkBuild(t, list[:build], ignored)
			checkImage(t, component, list[build:])
		})
	}
}

// checkBuild looks at the stage that makes a program.
func checkBuild(t *testing.T, list []instruction, ignored func(path string) bool) {
	t.Helper()
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)
	for _, i := range list {
		switch i.name {
		case "ARG":
			name, image, _ := strings.Cut(i.args, "=")
			if name == "GO" && !regexp.MustCompile(`:`+regexp.QuoteMeta(string(version[1]))+`\.\d+-alpine$`).MatchString(image) {
				t.Errorf("the image %q has not the version %s of go.mod, to the patch", image, version[1])
			}
			if name == "BASE" && !regexp.MustCompile(`:\d+\.\d+\.\d+$`).MatchString(image) {
				t.Errorf("the image %q has no exact version", image)
			}
		case "COPY":
			fields := strings.Fields(i.args)
			for _, source := range fields[:len(fields)-1] {
				if _, err := os.Stat(filepath.Join("../..", source)); err != nil || ignored(source) {
					t.Errorf("%s is copied, but is not there, or .dockerignore keeps it out: %v", source, err)
				}
			}
		case "RUN":
			if strings.Contains(i.args, "date") || strings.Contains(i.args, "curl") || strings.Contains(i.args, "apk add") {
				t.Errorf("RUN %s gives another image another day", i.args)
			}
		}
	}
}

// checkImage looks at the stage that becomes the image.
func checkImage(t *testing.T, component string, list []instruction) {
	t.Helper()
	data := map[string]string{"vmstorage": "/storage", "victoria-metrics": "/storage", "vmselect": "/cache"}[component]
	workdir := data
	if component == "vmselect" {
		workdir = ""
	}
	for name, want := range map[string]string{
		"USER": "1000:1000", "EXPOSE": ports(component), "ENTRYPOINT": `["/usr/local/bin/` + component + `"]`, "VOLUME": data, "WORKDIR": workdir,
		"CMD": "", "RUN": "", // a base without a shell will do
	} {
		if got := only(t, list, name); got != want {
			t.Errorf("%s is %q; want %q", name, got, want)
		}
	}
	if data != "" && !slices.Contains(list, instruction{"COPY", "--from=build --chown=1000:1000 /out/data " + data}) {
		t.Errorf("%s does not belong to the user", data)
	}
	want := ""
	if exposed := ports(component); exposed != "" {
		port, _, _ := strings.Cut(exposed, " ")
		want = `["wget", "-q", "-O", "/dev/null", "http://127.0.0.1:` + port + `/health"]`
	}
	health := only(t, list, "HEALTHCHECK")
	if _, command, _ := strings.Cut(health, " CMD "); command != want {
		t.Errorf("the health check runs %s; want %s", command, want)
	}
}

// ignore reads .dockerignore: the first component of a path has to be let in, and no later pattern may keep it out.
func ignore(t *testing.T) func(path string) bool {
	t.Helper()
	text, err := os.ReadFile("../../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	return func(path string) bool {
		out := false
		for line := range strings.Lines(string(text)) {
			pattern, in := strings.CutPrefix(strings.TrimSpace(line), "!")
			anywhere, any := strings.CutPrefix(pattern, "**/")
			match := pattern == "*" || path == pattern || strings.HasPrefix(path, pattern+"/")
			for part := range strings.SplitSeq(path, "/") {
				if ok, err := filepath.Match(anywhere, part); any && (ok || err != nil) {
					match = true
				}
			}
			if match && pattern != "" && pattern[0] != '#' {
				out = !in
			}
		}
		return out
	}
}

// TestBuildIsReproducible builds a binary the way the images do, of what they are given, in two directories.
func TestBuildIsReproducible(t *testing.T) {
	const component = "vmrestore"
	list := containerfile(t, component)
	var sums []string
	for range 2 {
		dir := t.TempDir()
		var command string
		env := append(os.Environ(), "GOPROXY=off")
		for _, i := range list[:slices.Index(list, instruction{"FROM", "${BASE}"})] {
			switch {
			case i.name == "COPY":
				fields := strings.Fields(i.args)
				for _, source := range fields[:len(fields)-1] {
					copyTree(t, filepath.Join("../..", source), filepath.Join(dir, source), ignore(t))
				}
			case i.name == "ENV":
				for _, m := range regexp.MustCompile(`(\w+)=("[^"]*"|\S+)`).FindAllStringSubmatch(i.args, -1) {
					env = append(env, m[1]+"="+strings.Trim(m[2], `"`))
				}
			case i.name == "RUN" && strings.HasPrefix(i.args, "go build"):
				command = strings.NewReplacer("/out/", dir+"/out/", "${VERSION}", "v0").Replace(i.args)
			}
		}
		build := exec.Command("sh", "-c", command)
		build.Dir, build.Env = dir, env
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("cannot build of what .dockerignore lets in: %s\n%s", err, out)
		}
		program, err := os.ReadFile(filepath.Join(dir, "out", component))
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, fmt.Sprintf("%x", sha256.Sum256(program)))
	}
	if sums[0] != sums[1] {
		t.Errorf("two builds in two directories have the sums %s and %s", sums[0], sums[1])
	}
}

func copyTree(t *testing.T, from, to string, ignored func(path string) bool) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ignored(strings.TrimPrefix(filepath.ToSlash(path), "../../")) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		below, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, below)
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		return os.WriteFile(target, text, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}
