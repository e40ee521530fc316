/** `pipewright completion`: scripts that ask `pipewright __complete WORD...` for what can follow. */

import { printable } from '../config/names.ts';
import { PipewrightError } from '../errors.ts';
import { print } from './output.ts';

const scripts = {
  bash: `# bash completion of pipewright; try it: source <(pipewright completion bash)
_pipewright() {
  local words=("\${COMP_WORDS[@]:1:COMP_CWORD}")
  local IFS=$'\\n'
  COMPREPLY=($(pipewright __complete "\${words[@]}" 2>/dev/null))
}
complete -o nosort -F _pipewright pipewright 2>/dev/null || complete -F _pipewright pipewright`,
  zsh: `#compdef pipewright
# zsh completion of pipewright; try it: source <(pipewright completion zsh)
_pipewright() {
  local -a proposals
  proposals=("\${(@f)$(pipewright __complete "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  compadd -a proposals
}
compdef _pipewright pipewright`,
  fish: `# fish completion of pipewright; try it: pipewright completion fish | source
function __pipewright_complete
    set -l words (commandline -opc) (commandline -ct)
    pipewright __complete $words[2..-1] 2>/dev/null
end
complete -c pipewright -f -a '(__pipewright_complete)'`,
} as const;

/** Prints the script of a shell. @throws PipewrightError BAD_ARGUMENT */
export async function runCompletion(_flags: object, shell: string): Promise<void> {
  const script = Object.entries(scripts).find(([name]) => name === shell)?.[1];
  if (script === undefined) {
    const detail = `the shell is one of ${Object.keys(scripts).join(', ')}`;
    throw new PipewrightError('BAD_ARGUMENT', { op: 'completion', subject: `"${printable(shell)}"`, detail });
  }
  print(script);
}
