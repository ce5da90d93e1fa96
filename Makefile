# make install: the program, its two names for git and docker, completions and man pages below PREFIX; make uninstall takes
# exactly these away again. DESTDIR is put before PREFIX, as packagers expect it. BIN is a program that is there already.

PREFIX ?= /usr/local
DESTDIR ?=
BIN ?= target/release/runai-credential

NAME := runai-credential
NAMES := git-credential-runai docker-credential-runai kubectl-runai_credential
COMMANDS := kubectl git docker get token exec login logout status doctor setup completions man

ROOT := $(DESTDIR)$(PREFIX)
BASH := $(ROOT)/share/bash-completion/completions/$(NAME)
ZSH := $(ROOT)/share/zsh/site-functions/_$(NAME)
FISH := $(ROOT)/share/fish/vendor_completions.d/$(NAME).fish
MAN := $(ROOT)/share/man/man1
PAGES := $(MAN)/$(NAME).1 $(COMMANDS:%=$(MAN)/$(NAME)-%.1)

.PHONY: install uninstall package
target/release/$(NAME):
	cargo build --release --locked

install: $(BIN)
	install -d "$(ROOT)/bin" "$(dir $(BASH))" "$(dir $(ZSH))" "$(dir $(FISH))" "$(MAN)"
	install -m 755 "$(BIN)" "$(ROOT)/bin/$(NAME)"
	for name in $(NAMES); do ln -sf $(NAME) "$(ROOT)/bin/$$name" || exit 1; done
	"$(BIN)" completions bash >"$(BASH)"
	"$(BIN)" completions zsh >"$(ZSH)"
	"$(BIN)" completions fish >"$(FISH)"
	"$(BIN)" man >"$(MAN)/$(NAME).1"
	for command in $(COMMANDS); do "$(BIN)" man $$command >"$(MAN)/$(NAME)-$$command.1" || exit 1; done
	chmod 644 "$(BASH)" "$(ZSH)" "$(FISH)" $(PAGES:%="%")

uninstall:
	rm -f "$(ROOT)/bin/$(NAME)" $(NAMES:%="$(ROOT)/bin/%") "$(BASH)" "$(ZSH)" "$(FISH)" $(PAGES:%="%")

# A Debian package, by cargo-deb (cargo install cargo-deb --locked): target/debian/*.deb.
package: $(BIN)
	rm -rf target/package
	$(MAKE) install DESTDIR=target/package PREFIX=/usr BIN="$(BIN)"
	gzip -9n target/package/usr/share/man/man1/*.1
	cargo deb --no-build --locked
