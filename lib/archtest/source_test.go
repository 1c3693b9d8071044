package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// root is the repository's root as seen from this package.
const root = "../.."

// sourceFile is one parsed Go file.
type sourceFile struct {
	path  string // relative to the root
	fset  *token.FileSet
	ast   *ast.File
	lines int
}

func (f *sourceFile) dir() string              { return filepath.Dir(f.path) }
func (f *sourceFile) line(n ast.Node) int      { return f.fset.Position(n.Pos()).Line }
func (f *sourceFile) lineCount(n ast.Node) int { return f.fset.Position(n.End()).Line - f.line(n) + 1 }

// productFiles parses all Go files below app and lib that are not tests.
func productFiles(t *testing.T) []*sourceFile {
	t.Helper()
	var files []*sourceFile
	for _, top := range []string{"app", "lib"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			src, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fset := token.NewFileSet()
			parsed, err := parser.ParseFile(fset, path, src, parser.ParseComments)
			if err != nil {
				return err
			}
			relative, err := filepath.Rel(root, path)
			files = append(files, &sourceFile{path: relative, fset: fset, ast: parsed, lines: strings.Count(string(src), "\n")})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(files) < 20 {
		t.Fatalf("only %d source files found; the test looks in the wrong place", len(files))
	}
	return files
}

// allowed reports whether the comment above a declaration exempts it from a rule:
// //archtest:allow <rule> <reason>
func allowed(doc *ast.CommentGroup, rule string) bool {
	if doc == nil {
		return false
	}
	for _, c := range doc.List {
		rest, ok := strings.CutPrefix(c.Text, "//archtest:allow "+rule)
		if ok && strings.TrimSpace(rest) != "" {
			return true
		}
	}
	return false
}
