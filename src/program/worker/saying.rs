//! What a worker says: to the person at the terminal, to its log, and to `coord status`.

use crate::queue::events;

use super::Worker;

impl Worker {
    pub(super) fn tell(&self, text: &str) {
        if let Some(tell) = self.options.tell {
            tell(text);
        }
    }

    pub(super) fn say_once(&mut self, text: &str) {
        self.say_about("", text);
    }

    /// Says once what keeps this worker from its work. `about` names what will pass, so that the notice can
    /// go with it.
    pub(super) fn say_about(&mut self, about: &'static str, text: &str) {
        if self.said != text {
            text.clone_into(&mut self.said);
            self.said_about = about;
            tracing::warn!("{text}");
            self.tell(text);
            let event = events::Event::notice(about, text);
            events::append(&self.site.queue, &mut self.me, event);
        }
    }

    /// What was said has passed.
    pub(super) fn unsay(&mut self) {
        let about = std::mem::take(&mut self.said_about);
        if !about.is_empty() {
            self.said.clear();
            let event = events::Event::notice(about, "");
            events::append(&self.site.queue, &mut self.me, event);
        }
    }
}
