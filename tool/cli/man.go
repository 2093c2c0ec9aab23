package cli

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// PageName is the file name of the manual page, such as "route.8" or
// "ionet-ps.1".
func (c *Command) PageName() string {
	return fmt.Sprintf("%s.%d", strings.ReplaceAll(c.typed(), " ", "-"), c.section())
}

// typed is the command as a user types it.
func (c *Command) typed() string {
	if c.Word {
		return "ionet " + c.Name
	}
	return c.Name
}

// Man writes the manual page in man(7)'s roff.
func (c *Command) Man(out io.Writer) {
	w := bufio.NewWriter(out)
	defer w.Flush()
	fmt.Fprintf(w, ".TH %s %d \"\" \"ionet %s\" \"ionet\"\n", roff(strings.ToUpper(strings.ReplaceAll(c.typed(), " ", "-"))), c.section(), roff(BuildVersion()))
	fmt.Fprintf(w, ".SH NAME\n%s \\- %s\n", roff(strings.ReplaceAll(c.typed(), " ", "-")), roff(c.Short))
	fmt.Fprintln(w, ".SH SYNOPSIS")
	forms := c.Synopsis
	if len(forms) == 0 {
		forms = []string{""}
	}
	for i, f := range forms {
		if i > 0 {
			fmt.Fprintln(w, ".br")
		}
		fmt.Fprintf(w, ".B %s\n", roff(c.typed()))
		if f != "" {
			fmt.Fprintln(w, line(f))
		}
	}
	if c.Long != "" {
		fmt.Fprintln(w, ".SH DESCRIPTION")
		body(w, c.Long)
	}
	fmt.Fprintln(w, ".SH OPTIONS")
	for _, o := range c.AllOptions() {
		tagged(w, o.Flags, o.Text)
	}
	if c.JSON != "" {
		fmt.Fprintln(w, ".SH JSON OUTPUT")
		body(w, c.JSON)
	}
	fmt.Fprintln(w, ".SH EXIT STATUS")
	for _, e := range c.exits() {
		tagged(w, fmt.Sprint(e.Status), e.Text)
	}
	for _, s := range []struct {
		name  string
		items []Item
	}{{"ENVIRONMENT", c.env()}, {"FILES", c.Files}, {"EXAMPLES", c.Examples}} {
		if len(s.items) == 0 {
			continue
		}
		fmt.Fprintf(w, ".SH %s\n", s.name)
		for _, i := range s.items {
			tagged(w, i.Name, i.Text)
		}
	}
	if len(c.SeeAlso) > 0 {
		fmt.Fprintf(w, ".SH SEE ALSO\n%s\n", line(strings.Join(c.SeeAlso, ", ")))
	}
}

func tagged(w io.Writer, name, text string) {
	fmt.Fprintf(w, ".TP\n.B %s\n", roff(name))
	if text == "" {
		return
	}
	fmt.Fprintln(w, ".RS")
	body(w, text)
	fmt.Fprintln(w, ".RE")
}

func body(w io.Writer, text string) {
	for i, p := range paragraphs(text) {
		if i > 0 {
			fmt.Fprintln(w, ".PP")
		}
		if p.literal {
			fmt.Fprintln(w, ".RS 4\n.nf")
		}
		for _, l := range p.lines {
			fmt.Fprintln(w, line(l))
		}
		if p.literal {
			fmt.Fprintln(w, ".fi\n.RE")
		}
	}
}

var roffEscape = strings.NewReplacer(`\`, `\e`, "-", `\-`, "\n", " ", `"`, `\(dq`, "^", `\(ha`, "~", `\(ti`, "`", `\(ga`)

func roff(s string) string { return roffEscape.Replace(s) }

// line is a text line that roff does not take for a request.
func line(s string) string {
	s = roff(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		return `\&` + s
	}
	return s
}
