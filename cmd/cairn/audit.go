package main

import (
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"cairn/admin"
)

func auditCommand() *cobra.Command {
	return group("audit", "See who changed what", auditListCommand())
}

func auditListCommand() *cobra.Command {
	var max int
	var before uint64
	var who, action string
	var failed bool
	c := identityCommand(&cobra.Command{Use: "ls", Short: "List changes made through the admin interface, newest first",
		Long: "List changes made through the admin interface, newest first: who, from where, what, and the result.\n\n" +
			fmt.Sprintf("The last %d records are kept, in the metadata. S3 requests of clients are not among them.", admin.AuditKept),
		Args: usageArgs(cobra.NoArgs)},
		func(c *cobra.Command, a *adminClient, o outputFlag, _ []string) error {
			q := url.Values{"max": {fmt.Sprint(max)}}
			for name, value := range map[string]string{"who": who, "action": action} {
				if value != "" {
					q.Set(name, value)
				}
			}
			if before > 0 {
				q.Set("before", fmt.Sprint(before))
			}
			if failed {
				q.Set("failed", "1")
			}
			var page admin.AuditPage
			if err := a.call(c.Context(), "GET", "/api/v1/audit?"+q.Encode(), &page); err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), page, func() string { return auditText(page) })
		})
	c.Flags().IntVar(&max, "max", 100, "records to list, up to 1000")
	c.Flags().Uint64Var(&before, "before", 0, "list records before the one with this number")
	c.Flags().StringVar(&who, "who", "", "only of this user")
	c.Flags().StringVar(&action, "action", "", "only of this action, e.g. cairn:CreateUser")
	c.Flags().BoolVar(&failed, "failed", false, "only what did not succeed")
	return c
}

func auditText(page admin.AuditPage) string {
	rows := [][]string{{"NUMBER", "TIME", "WHO", "FROM", "ACTION", "SUBJECT", "RESULT"}}
	for _, r := range page.Records {
		who := r.Who
		if who == "" {
			who = r.AccessKey
		}
		rows = append(rows, []string{fmt.Sprint(r.Number), timeText(r.Time), who, r.From, r.Action, r.Subject, r.Result})
	}
	text := tableText(rows)
	if page.Next > 0 {
		text += fmt.Sprintf("older ones: --before %d\n", page.Next)
	}
	return text
}
