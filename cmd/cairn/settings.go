package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// setting is one setting of the server: what it is now, and where that came from.
type setting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"` // "default", "file PATH", "env NAME" or "flag"
}

const settingPrefix = "CAIRN_"

// settingEnv is the variable of the environment that stands for a flag.
func settingEnv(flag string) string {
	return settingPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// applySettings gives every flag that the command line does not name the environment's value, or else the file's. It returns
// all settings with their sources, in the order of their names.
func applySettings(fl *pflag.FlagSet, path string, getenv func(string) string) (all []setting, err error) {
	if path == "" {
		path = getenv(settingEnv("config"))
	}
	file, err := readSettings(path)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	var errs []error
	fl.VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || f.Name == "config" || f.Name == "output" {
			return
		}
		known[f.Name] = true
		source, err := applySetting(f, fl, file[f.Name], path, getenv(settingEnv(f.Name)))
		errs = append(errs, err)
		all = append(all, setting{f.Name, f.Value.String(), source})
	})
	for name := range file {
		if !known[name] {
			errs = append(errs, fmt.Errorf("%s: unknown setting %q%s", path, name, didYouMean(name, known)))
		}
	}
	return all, errors.Join(errs...)
}

func applySetting(f *pflag.Flag, fl *pflag.FlagSet, file []string, path, env string) (source string, err error) {
	source, values := "default", []string(nil)
	switch {
	case f.Changed:
		return "flag", nil
	case env != "":
		source, values = "env "+settingEnv(f.Name), []string{env}
		if f.Value.Type() == "stringArray" {
			values = strings.Split(env, ",")
		}
	case file != nil:
		source, values = "file "+path, file
	}
	if len(values) > 1 && f.Value.Type() != "stringArray" {
		return source, fmt.Errorf("%s: %s is one value, not a list", source, f.Name)
	}
	for _, v := range values {
		if err := fl.Set(f.Name, v); err != nil {
			return source, fmt.Errorf("%s: %w", source, err)
		}
	}
	return source, nil
}

const maxSettingsFile = 1 << 20

// readSettings reads a flat YAML mapping of names to values, or to lists of values.
func readSettings(path string) (map[string][]string, error) {
	if path == "" {
		return nil, nil
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxSettingsFile {
		return nil, fmt.Errorf("%s: %d bytes are no file of settings", path, st.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var raw map[string]yaml.Node
	if err := yaml.Unmarshal(b, &raw); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	out := make(map[string][]string, len(raw))
	for name, node := range raw {
		switch node.Kind {
		case yaml.ScalarNode:
			out[name] = []string{node.Value}
		case yaml.SequenceNode:
			out[name] = []string{}
			for _, item := range node.Content {
				if item.Kind != yaml.ScalarNode {
					return nil, fmt.Errorf("%s:%d: want plain values in the list of %s", path, item.Line, name)
				}
				out[name] = append(out[name], item.Value)
			}
		default:
			return nil, fmt.Errorf("%s:%d: %s: want a value or a list of values", path, node.Line, name)
		}
	}
	return out, nil
}

// didYouMean names the known setting that is nearest, if one is near.
func didYouMean(name string, known map[string]bool) string {
	best, least := "", 3 // edits
	for k := range known {
		if d := edits(name, k); d < least || d == least && k < best {
			best, least = k, d
		}
	}
	if best == "" {
		return "; `cairn config show` lists them"
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// edits is the Levenshtein distance between two names.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// secretSettings are not printed.
var secretSettings = []string{"token"}

func configCommand() *cobra.Command {
	return group("config", "Show the server's settings", configShowCommand())
}

func configShowCommand() *cobra.Command {
	var output outputFlag
	var f serverFlags
	c := &cobra.Command{
		Use:   "show",
		Short: "Print every setting of the server, its effective value, and where that came from",
		Long: "Print what `cairn server` would use if it were started here with the same flags, environment and --config file: every\n" +
			"setting, its value, and where that came from. What a node's directory remembers counts where a value is empty.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := applySettings(c.Flags(), f.config, os.Getenv)
			if err != nil {
				return usageError(c, err)
			}
			for i := range all {
				if slices.Contains(secretSettings, all[i].Name) && all[i].Value != "" {
					all[i].Value = "(set)"
				}
			}
			return output.print(c.OutOrStdout(), all, func() string {
				return table("SETTING\tVALUE\tSOURCE", func(row func(string, ...any)) {
					for _, s := range all {
						row("%s\t%s\t%s", s.Name, orDash(s.Value), s.Source)
					}
				})
			})
		},
	}
	f.register(c.Flags())
	output.register(c)
	return c
}
