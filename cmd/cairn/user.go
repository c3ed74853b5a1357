package main

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cairn/admin"
	"cairn/iam"
)

func userCommand() *cobra.Command {
	return group("user", "Manage users, each an account that owns its buckets", userCreateCommand(), userListCommand(), userSetCommand(), userRemoveCommand())
}

// identityCommand makes a command with the usual flags whose run asks the admin API.
func identityCommand(c *cobra.Command, run func(c *cobra.Command, a *adminClient, o outputFlag, args []string) error) *cobra.Command {
	var output outputFlag
	var flags adminFlags
	c.RunE = func(c *cobra.Command, args []string) error {
		a, err := flags.client()
		if err != nil {
			return err
		}
		return run(c, a, output, args)
	}
	output.register(c)
	flags.register(c)
	return c
}

func userCreateCommand() *cobra.Command {
	var q iam.NewUser
	c := identityCommand(&cobra.Command{Use: "create NAME", Short: "Make a user and its first access key",
		Long: "Make a user and its first access key, which is printed this once.\n\n" +
			"Built-in policies: readwrite (the default), readonly and writeonly are about the user's own buckets; admin is\n" +
			"about everything; diagnostics about status and metrics.",
		Args: usageArgs(cobra.ExactArgs(1))},
		func(c *cobra.Command, a *adminClient, o outputFlag, args []string) error {
			q.Name = args[0]
			var made admin.NewUser
			if err := a.send(c.Context(), "POST", "/api/v1/users", q, &made); err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), made, func() string {
				return fmt.Sprintf("user        %s\nid          %s\naccount     %s\npolicies    %s\naccess key  %s\nsecret key  %s", made.Name, made.ID, made.Number,
					strings.Join(made.Policies, ", "), made.AccessKey, made.SecretKey)
			})
		})
	c.Flags().StringVar(&q.AccessKey, "access-key", "", "access key (default: made)")
	c.Flags().StringVar(&q.SecretKey, "secret-key", "", "secret key (default: made)")
	c.Flags().StringVar(&q.Email, "email", "", "e-mail address, by which access control lists may name the user")
	c.Flags().StringSliceVar(&q.Policies, "policy", nil, "policies of the user (default readwrite)")
	c.Flags().StringSliceVar(&q.Groups, "group", nil, "groups of the user")
	return c
}

func userListCommand() *cobra.Command {
	return identityCommand(&cobra.Command{Use: "ls", Short: "List users", Args: usageArgs(cobra.NoArgs)},
		func(c *cobra.Command, a *adminClient, o outputFlag, _ []string) error {
			var list []iam.User
			if err := a.call(c.Context(), "GET", "/api/v1/users", &list); err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), list, func() string {
				rows := [][]string{{"NAME", "ACCOUNT", "POLICIES", "GROUPS", "STATE"}}
				for _, u := range list {
					rows = append(rows, []string{u.Name, u.Number, strings.Join(u.Policies, ","), strings.Join(u.Groups, ","), stateText(u.Disabled)})
				}
				return tableText(rows)
			})
		})
}

func stateText(disabled bool) string {
	if disabled {
		return "disabled"
	}
	return "active"
}

func userSetCommand() *cobra.Command {
	var policies, groups []string
	var disabled bool
	c := identityCommand(&cobra.Command{Use: "set NAME", Short: "Change a user's policies, groups or state", Args: usageArgs(cobra.ExactArgs(1))},
		func(c *cobra.Command, a *adminClient, o outputFlag, args []string) error {
			var q iam.ChangeUser
			if c.Flags().Changed("policy") {
				q.Policies = &policies
			}
			if c.Flags().Changed("group") {
				q.Groups = &groups
			}
			if c.Flags().Changed("disabled") {
				q.Disabled = &disabled
			}
			var u iam.User
			if err := a.send(c.Context(), "PATCH", "/api/v1/users/"+url.PathEscape(args[0]), q, &u); err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), u, func() string {
				return fmt.Sprintf("%s: policies %s, groups %s, %s", u.Name, strings.Join(u.Policies, ","), strings.Join(u.Groups, ","), stateText(u.Disabled))
			})
		})
	c.Flags().StringSliceVar(&policies, "policy", nil, "the user's policies from now on")
	c.Flags().StringSliceVar(&groups, "group", nil, "the user's groups from now on")
	c.Flags().BoolVar(&disabled, "disabled", false, "whether all keys of the user are refused")
	return c
}

func userRemoveCommand() *cobra.Command {
	return removeCommand("rm NAME", "Remove a user and its keys; buckets that it owns stay", "user", "/api/v1/users/")
}

// removeCommand makes the command that deletes one thing by name.
func removeCommand(use, short, what, path string) *cobra.Command {
	var yes bool
	c := identityCommand(&cobra.Command{Use: use, Short: short, Args: usageArgs(cobra.ExactArgs(1))},
		func(c *cobra.Command, a *adminClient, o outputFlag, args []string) error {
			if !yes && !confirmed(c, fmt.Sprintf("Remove %s %s?", what, args[0])) {
				return fmt.Errorf("nothing was removed (give --yes to go on without being asked)")
			}
			var done admin.Done
			if err := a.call(c.Context(), "DELETE", path+url.PathEscape(args[0]), &done); err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), done, func() string { return what + " " + args[0] + " is gone" })
		})
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

// confirmed asks a person on the terminal.
func confirmed(c *cobra.Command, question string) bool {
	fmt.Fprint(c.ErrOrStderr(), question+" [y/N] ")
	var answer string
	fmt.Fscanln(c.InOrStdin(), &answer)
	return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes")
}

// tableText aligns columns.
func tableText(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		line := ""
		for i, cell := range row {
			line += fmt.Sprintf("%-*s  ", widths[i], cell)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format(time.RFC3339)
}
